-- The gateway's reports after a claim: settle, touch, release, tend.

local function keep(license, lease, used)
  record(license, 'kept', {'kind', lease.kind, 'user', lease.user, 'name', lease.name, 'lease', lease.id})
  lease.pending, lease.refused = nil, nil
  leases.write(license, lease, used)
end

-- Settles one provisional lease. The result does not depend on the order in which its requests end.
-- Returns 1 if that decided anything, else 0.
local function settle_one(license, kind, user, client, document, id, ended, served)
  local claimant = new_claimant(user, '', client, document, NO_GROUPS)
  name_document(claimant, license.settings)
  local lease = leases.read_held(license, claimant, kind, id)
  if not lease or lease.id ~= id or not lease.pending then return 0 end
  if served == '1' then
    keep(license, lease, leases.last_use(license, lease))
    return 1
  end
  local pending = {}
  for _, reference in ipairs(lease.pending) do
    if reference ~= ended then pending[#pending + 1] = reference end
  end
  lease.refused = lease.refused or served == '0' or nil
  if lease.refused and #pending == 0 then
    leases.finish(license, lease, 'taken-back', 'refused', {'reference', ended})
    return 1
  end
  lease.pending = pending
  leases.write(license, lease, leases.last_use(license, lease))
  return 0
end

-- Reports how a request ended that a provisional lease was made for.
-- ARGV: kind, user, client, document, id, reference, and whether it was served ('1' or '0'; '' for an inconclusive
--       response)
-- Returns 1 if that decided anything, else 0.
local function settle(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  return settle_one(license, unpack(args))
end

-- Reports how several requests ended, as `settle` does.
-- ARGV: JSON of [[the arguments of settle], …]
-- Returns how many of them decided anything.
local function settle_all(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local decided = 0
  for _, item in ipairs(cjson.decode(args[1])) do decided = decided + settle_one(license, unpack(item)) end
  return decided
end

-- Notes the use of one lease. Returns why the lease is lost, or nil.
local function touch_one(license, kind, claimant, id, age, confirmed)
  name_document(claimant, license.settings)
  local lease = leases.read_held(license, claimant, kind, id)
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
  local changed = leases.note_visit(license, lease, claimant.client, used)
  if lease.pending then
    keep(license, lease, used)
  elseif changed then
    leases.write(license, lease, used)
  elseif used > last then
    leases.note_use(license, lease, used)
  end
  return nil
end

-- Notes the uses of one license's leases in one batch.
-- ARGV: JSON of [[kind, id, age of the use, age of the store's last confirmation, user, name, client, document, groups,
--       network of an anonymous browser or ''], …]
-- Returns {index from 1, reason, index, reason, …} of the leases that are lost.
local function touch(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local lost = {}
  for index, item in ipairs(cjson.decode(args[1])) do
    local kind, id, age, confirmed, user, name, client, document, groups, network = unpack(item)
    local claimant = new_claimant(user, name, client, document, lines(groups))
    claimant.network = network_in(network)
    local reason = touch_one(license, kind, claimant, id, age, confirmed)
    if reason then
      lost[#lost + 1] = index
      lost[#lost + 1] = reason
    end
  end
  return lost
end

local function end_visits_of(license, lease, client)
  local used = lease and leases.last_use(license, lease)
  if lease and leases.end_visits(license, lease, client) then leases.write(license, lease, used) end
end

-- Signs a user out on one client.
-- ARGV: user, client. Returns {kind that was in use there ('' for none), when the Session CAL comes back (0: now)}
local function release(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local user, client = args[1], args[2]
  local kind, ends = '', 0
  local visited = redis.call('HGET', license.leases, '@visits|' .. user)
  for document in pairs(visited and cmsgpack.unpack(visited) or {}) do
    local lease = leases.read(license, 'document', leases.field('document', user, client, document))
    end_visits_of(license, lease, client)
    if lease then kind = 'document' end
  end
  local session = leases.read(license, 'session', leases.field('session', user, client))
  if session then
    sign_out(license, session, 'signed-out', 'user')
    kind, ends = 'session', session.ends > license.now and session.ends or 0
  end
  local named = leases.read(license, 'named', leases.field('named', user))
  if named then
    local used = leases.last_use(license, named)
    local changed = leases.end_visits(license, named, client)
    if named.client == client then
      named.client, changed = '', true
    end
    if changed then leases.write(license, named, used) end
    if not session and leases.serves(license, named) then kind = 'named' end
  end
  queue.leave(license, user .. '|' .. client, 'gave-up')
  return {kind, ends}
end

-- Ends what is due, offers what came free although no claim comes, corrects times of a wrong clock, and drops old records.
-- ARGV: how many leases to end at most
-- Returns {id of the server's history: another one after a failover, which may have forgotten the last leases;
--          milliseconds that the newest record is ahead of the clock, 0 unless that is more than can be right}
local function tend(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local most = tonumber(args[1])
  local corrected = leases.correct_times(license, most, MOST_AHEAD)
  if corrected > 0 then
    record(license, 'times-corrected', {'cals', corrected, 'ahead', math.max(0, license.newest - license.now)})
  end
  leases.sweep(license, most)
  drop_old_records(license)
  queue.tend(license)
  return {redis.call('INFO', 'replication'):match('master_replid:(%x+)'), math.max(0, license.newest - license.now)}
end

redis.register_function(VERSION .. 'settle', settle)
redis.register_function(VERSION .. 'settle_all', settle_all)
redis.register_function(VERSION .. 'touch', touch)
redis.register_function(VERSION .. 'release', release)
redis.register_function(VERSION .. 'tend', tend)
