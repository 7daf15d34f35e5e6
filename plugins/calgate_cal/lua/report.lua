-- Functions for reports: they only read, so a replica can reply.

-- Returns what administrators changed at run time.
local function changed(license)
  local values = {}
  for name, value in pairs(license.settings or {}) do
    if name ~= 'terms' then values[name] = value end
  end
  return values
end

-- Returns {now, JSON of what administrators changed, number of waiters, JSON of each kind's pool …}
local function state(keys)
  local license, unknown = open(keys)
  if not license then return {'unconfigured', unknown.now} end
  local reply = {tostring(license.now), cjson.encode(changed(license)), redis.call('ZCARD', license.queue)}
  for _, kind in ipairs(KINDS) do
    local snapshot = pool.snapshot(license, kind)
    snapshot.in_license = license.terms[kind].in_license
    snapshot.offered = pool.share(license, OFFERS[kind])
    snapshot.beyond = pool.beyond(license, kind)
    snapshot.anonymous = kind == 'session' and pool.share(license, 'a:') or 0
    reply[#reply + 1] = cjson.encode(snapshot)
  end
  return reply
end

-- Returns {milliseconds that the newest record is ahead of the server's clock}
local function ahead(keys)
  local license, unknown = open(keys)
  license = license or unknown
  return {math.max(0, license.newest - clock())}
end

-- Returns a lease with its last use and whether it serves its holder.
local function shown(license, lease)
  lease.last_used = leases.last_use(license, lease)
  if license.terms then lease.serves = leases.serves(license, lease) end
  return lease
end

-- Returns the leases, a page at a time. ARGV: cursor, about how many. Returns {cursor, JSON of a lease …}
local function holders(keys, args)
  local license, unknown = open(keys)
  license = license or unknown
  local page = redis.call('HSCAN', license.leases, args[1], 'COUNT', args[2])
  local reply = {page[1]}
  for index = 1, #page[2], 2 do
    local field, text = page[2][index], page[2][index + 1]
    local lease = field:sub(1, 1) ~= '@' and leases.read(license, cmsgpack.unpack(text).kind, field, text)
    if lease then reply[#reply + 1] = cjson.encode(shown(license, lease)) end
  end
  return reply
end

-- Returns the leases of some fields, without those that have ended. ARGV: fields. Returns {JSON of a lease …}
local function held(keys, args)
  local license, unknown = open(keys)
  license = license or unknown
  local reply = {}
  for _, field in ipairs(args) do
    local text = redis.call('HGET', license.leases, field)
    local lease = text and leases.read(license, cmsgpack.unpack(text).kind, field, text)
    if lease then reply[#reply + 1] = cjson.encode(shown(license, lease)) end
  end
  return reply
end

-- Returns the waiters in order: {JSON of each …}
local function waiting(keys)
  local license, unknown = open(keys)
  license = license or unknown
  local reply = {}
  for place, holder in ipairs(redis.call('ZRANGE', license.queue, 0, -1)) do
    local waiter = read(license, holder)
    waiter.place = place
    waiter.kept_until = tonumber(redis.call('ZSCORE', license.places, holder))
    reply[place] = cjson.encode(waiter)
  end
  return reply
end

-- Returns the permanent state: {JSON of what administrators set, JSON of a lease with its field and last use …}
local function export(keys)
  local license, unknown = open(keys)
  license = license or unknown
  local reply = {cjson.encode(changed(license))}
  for _, kind in ipairs({'named', 'document', 'usage'}) do
    for _, field in ipairs(redis.call('ZRANGE', license[kind], '(' .. license.now, '+inf', 'BYSCORE')) do
      local lease = leases.read(license, kind, field)
      lease.last_used, lease.ends = leases.last_use(license, lease), nil
      reply[#reply + 1] = cjson.encode(lease)
    end
  end
  return reply
end

local function read_only(name, callback)
  redis.register_function{function_name = VERSION .. name, callback = callback, flags = {'no-writes'}}
end

read_only('state', state)
read_only('ahead', ahead)
read_only('holders', holders)
read_only('held', held)
read_only('queue', waiting)
read_only('export', export)
