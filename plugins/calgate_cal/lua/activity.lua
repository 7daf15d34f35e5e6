-- What the gateway tells afterwards: settle, touch, release, tend.

local function keep(license, lease, used)
  record(license, 'kept', {'kind', lease.kind, 'user', lease.user, 'name', lease.name, 'lease', lease.id})
  lease.pending, lease.refused = nil, nil
  leases.write(license, lease, used)
end

-- How a request ended for which a lease is provisional. ARGV: kind, user, client, document, id, reference, and whether it
-- was served (1 or 0; '' where its answer cannot tell). What it comes to does not depend on the order in which they end.
-- Returns 1 if that decided anything.
local function settle(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local lease = leases.read(license, args[1], leases.field(args[1], args[2], args[3], args[4]))
  if not lease or lease.id ~= args[5] or not lease.pending then return 0 end
  if args[7] == '1' then
    keep(license, lease, leases.last_use(license, lease))
    return 1
  end
  local pending = {}
  for _, reference in ipairs(lease.pending) do
    if reference ~= args[6] then pending[#pending + 1] = reference end
  end
  lease.refused = lease.refused or args[7] == '0' or nil
  if lease.refused and #pending == 0 then
    leases.finish(license, lease, 'taken-back', 'refused', {'reference', args[6]})
    return 1
  end
  lease.pending = pending
  leases.write(license, lease, leases.last_use(license, lease))
  return 0
end

-- One lease that was used. Answers why it is lost, or nil.
local function touch_one(license, kind, claimant, id, age, confirmed)
  local field = field_of(claimant, kind)
  local lease = leases.read(license, kind, field)
  if not lease then
    if reassert(license, claimant, kind, id, age, confirmed) then return nil end
    return 'ended'
  end
  if lease.id ~= id then return 'ended' end
  if not leases.serves(license, lease) then return kind == 'usage' and 'hour-over' or 'removed' end
  if lease.left then return 'signed-out' end
  if kind == 'named' and includes(lease.told, claimant.client) then return 'taken-over' end
  local last = leases.last_use(license, lease) or 0
  local used = math.max(license.now - age, last, lease.granted)
  if lease.pending then
    keep(license, lease, used)
  elseif used > last then
    leases.note_use(license, lease, used)
  end
  return nil
end

-- Activity of one license in one batch. ARGV: JSON of [[kind, id, age of the use, age of the store's last
-- word that it stands, user, name, client, document, groups], …]
-- Returns {index from 1, reason, index, reason, …} of those that are lost.
local function touch(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local lost = {}
  for index, item in ipairs(cjson.decode(args[1])) do
    local kind, id, age, confirmed, user, name, client, document, groups = unpack(item)
    local reason = touch_one(license, kind, new_claimant(user, name, client, document, lines(groups)), id, age, confirmed)
    if reason then
      lost[#lost + 1] = index
      lost[#lost + 1] = reason
    end
  end
  return lost
end

-- The user has signed out on this client. ARGV: user, client
local function release(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local user, client = args[1], args[2]
  local session = leases.read(license, 'session', leases.field('session', user, client))
  if session then sign_out(license, session, 'signed-out', 'user') end
  local named = leases.read(license, 'named', leases.field('named', user))
  if named and named.client == client then
    named.client = ''
    leases.write(license, named, leases.last_use(license, named))
  end
  queue.leave(license, user .. '|' .. client, 'gave-up')
  return 1
end

-- Ends what is due, offers what came free, also when nobody asks, and drops old records. ARGV: how many to end at most
-- Returns the name of the server's history: another one after a failover, which may have forgotten the last leases
local function tend(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  leases.sweep(license, tonumber(args[1]))
  drop_old_records(license)
  queue.tend(license)
  return redis.call('INFO', 'replication'):match('master_replid:(%x+)')
end

redis.register_function(VERSION .. 'settle', settle)
redis.register_function(VERSION .. 'touch', touch)
redis.register_function(VERSION .. 'release', release)
redis.register_function(VERSION .. 'tend', tend)
