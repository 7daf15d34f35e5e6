-- What is asked for reports: reads only, so a replica can answer.

-- What administrators changed while running.
local function changed(license)
  local values = {}
  for name, value in pairs(license.settings or {}) do
    if name ~= 'terms' then values[name] = value end
  end
  return values
end

-- Returns {now, JSON of what administrators changed, JSON of each kind's pool …}
local function state(keys)
  local license, unknown = open(keys)
  if not license then return {'unconfigured', unknown.now} end
  local answer = {tostring(license.now), cjson.encode(changed(license))}
  for _, kind in ipairs(KINDS) do
    local picture = pool.picture(license, kind)
    picture.in_license = license.terms[kind].in_license
    picture.offered = pool.share(license, OFFERS[kind])
    answer[#answer + 1] = cjson.encode(picture)
  end
  return answer
end

-- Everything that is out, a page at a time. ARGV: cursor, about how many. Returns {cursor, JSON of a lease …}
local function holders(keys, args)
  local license, unknown = open(keys)
  license = license or unknown
  local page = redis.call('HSCAN', license.leases, args[1], 'COUNT', args[2])
  local answer = {page[1]}
  for index = 1, #page[2], 2 do
    local field, text = page[2][index], page[2][index + 1]
    local it = field:sub(1, 1) ~= '@' and lease.read(license, cmsgpack.unpack(text).kind, field, text)
    if it then
      it.last_used = lease.last_use(license, it)
      if license.terms then it.serves = lease.serves(license, it) end
      answer[#answer + 1] = cjson.encode(it)
    end
  end
  return answer
end

-- Who waits, in order. Returns {JSON of each …}
local function waiting(keys)
  local license, unknown = open(keys)
  license = license or unknown
  local answer = {}
  for place, holder in ipairs(redis.call('ZRANGE', license.queue, 0, -1)) do
    local waiter = read(license, holder)
    waiter.place = place
    waiter.kept_until = tonumber(redis.call('ZSCORE', license.places, holder))
    answer[place] = cjson.encode(waiter)
  end
  return answer
end

-- Permanent state. Returns {JSON of what administrators set, JSON of a lease with its field and last use …}
local function export(keys)
  local license, unknown = open(keys)
  license = license or unknown
  local answer = {cjson.encode(changed(license))}
  for _, kind in ipairs({'named', 'document', 'usage'}) do
    for _, field in ipairs(redis.call('ZRANGE', license[kind], '(' .. license.now, '+inf', 'BYSCORE')) do
      local it = lease.read(license, kind, field)
      it.last_used, it.ends = lease.last_use(license, it), nil
      answer[#answer + 1] = cjson.encode(it)
    end
  end
  return answer
end

local function read_only(name, callback)
  redis.register_function{function_name = VERSION .. name, callback = callback, flags = {'no-writes'}}
end

read_only('state', state)
read_only('holders', holders)
read_only('queue', waiting)
read_only('export', export)
