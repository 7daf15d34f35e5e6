-- A stand-in for haproxy-auth-request, which the example loads: the same action, variables and comparison of names.
-- ARGV of the action: backend, path, method, and patterns of headers for the verdict, for success and for refusal.

local function matches(name, patterns)
  for pattern in patterns:gmatch('[^,]+') do
    if pattern == '*' or pattern == name then return true end
  end
  return false
end

local function address_of(backend)
  for _, server in pairs(core.backends[backend].servers) do return server:get_addr() end
end

local function refuse(txn, response, patterns)
  local reply = txn:reply({status = response.status, body = response.body})
  for name, values in pairs(response.headers) do
    if patterns ~= '-' and matches(name, patterns) then
      for _, value in pairs(values) do reply:add_header(name, value) end
    end
  end
  txn:done(reply)
end

core.register_action('auth-intercept', {'http-req'}, function(txn, backend, path, method, to_verdict, on_success, on_refusal)
  assert(method == 'GET' and on_success == '-', 'the stand-in does only what the example uses')
  local headers = {}
  for name, values in pairs(txn.http:req_get_headers()) do
    if name ~= 'host' and name ~= 'content-length' and matches(name, to_verdict) then
      headers[name] = {}
      for _, value in pairs(values) do table.insert(headers[name], value) end
    end
  end
  local response = core.httpclient():get({url = 'http://' .. address_of(backend) .. path, headers = headers})
  for name, values in pairs(response.headers) do
    for _, value in pairs(values) do txn:set_var('req.auth_response_header.' .. name:gsub('[^a-z0-9]', '_'), value) end
  end
  if response.status < 200 or response.status > 299 then refuse(txn, response, on_refusal) end
end, 6)
