-- The functions for opening a document: claim, holds.
-- Every function returns {'unconfigured'} while the license's terms are not known.
-- Groups come as one text, a line each. Ages are milliseconds before now, by the gateway's own clock.

local MOST_PENDING = 100   -- references of one provisional lease; of more, only the latest can still decide it
local MOST_TOLD = 20
local DENIAL_KEPT = 60 * 1000   -- in which one denial of anonymous browsers is recorded for a network
local NO_GROUPS = {}

local function lines(text)
  if text == '' then return NO_GROUPS end
  local list = {}
  for line in text:gmatch('[^\n]+') do list[#list + 1] = line end
  return list
end

local function network_in(text)
  return text and text ~= '' and text or nil
end

-- Appends to a list that has a bound; the oldest entry goes.
local function append(list, value, most)
  list[#list + 1] = value
  if #list > most then table.remove(list, 1) end
end

local function fields_of(claimant, kind, extra)
  local fields = {'kind', kind, 'user', claimant.user, 'name', claimant.name, 'client', claimant.client,
    'document', kind == 'document' and claimant.cal_document or claimant.document, 'reference', claimant.reference or ''}
  if #claimant.groups > 0 then
    fields[#fields + 1] = 'groups'
    fields[#fields + 1] = table.concat(claimant.groups, '\n')
  end
  for _, word in ipairs(extra or NO_GROUPS) do fields[#fields + 1] = word end
  return fields
end

-- Makes a new version of the settings, for which every call finds out again which kinds there are.
local function look_for_all_kinds(license)
  license.kinds = KINDS
  set(license, {})
end

-- Puts back a lease that a failover has forgotten and a gateway still knows: it is its holder's, also beyond the limit.
-- Not one whose own clock has run out, nor one that ended: ended leases are remembered longer than a gateway is trusted.
local function reassert(license, claimant, kind, id, age, confirmed)
  if confirmed >= TRUSTED or redis.call('ZSCORE', license.ended, id) then return false end
  local granted = math.min(tonumber(id:match('^%d+')), license.now)
  local lease = {id = id, kind = kind, user = claimant.user, name = claimant.name, client = claimant.client,
    document = kind == 'document' and claimant.cal_document or claimant.document,
    groups = #claimant.groups > 0 and claimant.groups or nil, granted = granted, network = claimant.network,
    field = field_of(claimant, kind)}
  local used = math.max(granted, license.now - age)
  if redis.call('HEXISTS', license.leases, lease.field) == 1 then return false end
  if claimant.other_document and leases.read_held(license, claimant, kind, id) then return false end
  if leases.ends(license, lease, used) <= license.now then return false end
  record(license, 'reasserted', fields_of(claimant, kind, {'lease', id}))
  leases.note_visit(license, lease, claimant.client, used)
  leases.write(license, lease, used)
  if not includes(license.kinds, kind) then look_for_all_kinds(license) end
  return true
end

-- Signs the holder of a Session CAL out: it comes back when its minimum is over, at once if that is past. `ends` of the
-- lease says when.
local function sign_out(license, lease, what, by)
  if lease.left then return end
  lease.left = license.now
  local ends = leases.ends(license, lease, license.now)
  if ends <= license.now then
    leases.finish(license, lease, what, by)
    lease.ends = ends
    return
  end
  local used = leases.last_use(license, lease)
  record(license, what, {'kind', lease.kind, 'user', lease.user, 'name', lease.name, 'client', lease.client,
    'lease', lease.id, 'by', by or '', 'until', ends, 'used', used})
  leases.write(license, lease, used)
end

-- Signs a user out of the Session CALs on all machines.
local function sign_out_sessions(license, user, by)
  local start = leases.field('session', user, '')
  for _, field in ipairs(redis.call('ZRANGE', license.session, '(' .. license.now, '+inf', 'BYSCORE')) do
    if field:sub(1, #start) == start then
      local lease = leases.read(license, 'session', field)
      if lease then sign_out(license, lease, 'signed-out', by) end
    end
  end
end

local function use(license, lease, claimant)
  local changed = leases.rename(lease, claimant.name)
  if lease.left then
    record(license, 'came-back', fields_of(claimant, lease.kind, {'lease', lease.id}))
    lease.left, changed = nil, true
  end
  if lease.pending and not includes(lease.pending, claimant.reference) then
    append(lease.pending, claimant.reference, MOST_PENDING)
    lease.refused, changed = nil, true
  end
  changed = leases.note_visit(license, lease, claimant.client, license.now) or changed
  if lease.kind == 'named' and lease.client ~= claimant.client then
    lease.client, changed = claimant.client, true
  end
  if changed then
    leases.write(license, lease, license.now)
  else
    leases.note_use(license, lease, license.now)
  end
  if claimant.waiter then
    queue.leave(license, holder_of(claimant), 'let-in', {'kind', lease.kind, 'lease', lease.id})
  end
end

-- Lets another machine of the same user take a Named CAL over; the machine that had it gets one denial that says so.
local function take_over(license, lease, claimant)
  record(license, 'taken-over', fields_of(claimant, lease.kind, {'lease', lease.id, 'from', lease.client}))
  lease.told = lease.told or {}
  append(lease.told, lease.client, MOST_TOLD)
  publish_lost(license, lease, 'taken-over')
end

-- Keeps a Usage CAL whose hour is over until its 28 days are.
local function spend(license, lease)
  local used = leases.last_use(license, lease)
  local field = 'spent|' .. lease.id
  redis.call('HDEL', license.leases, lease.field)
  redis.call('ZREM', license.usage, lease.field)
  redis.call('ZREM', license.used, lease.field)
  lease.field = field
  leases.write(license, lease, used)
end

local function grant(license, claimant, held, choice)
  local kind = choice.kind
  if choice.victim then
    leases.finish(license, choice.victim, 'reclaimed', '', {'for', claimant.user})
    publish_lost(license, choice.victim, 'reclaimed')
  end
  if claimant.over then leases.expire(license, kind, field_of(claimant, kind)) end
  local extra = {}
  if choice.out and choice.out > choice.limit then extra = {'overdraft', '1'} end
  if choice.beyond then extra = {'beyond', '1'} end
  if claimant.waiter then
    extra[#extra + 1] = 'waited'
    extra[#extra + 1] = license.now - claimant.waiter.since
  end
  local id = record(license, 'granted', fields_of(claimant, kind, extra), true)
  if kind == 'usage' and held.usage then spend(license, held.usage) end
  local lease = {id = id, kind = kind, user = claimant.user, name = claimant.name, client = claimant.client,
    document = kind == 'document' and claimant.cal_document or claimant.document, granted = license.now, by = 'dynamic',
    pending = {claimant.reference}, field = field_of(claimant, kind), beyond = choice.beyond,
    network = claimant.network,
    groups = license.terms.session.shared and #claimant.groups > 0 and claimant.groups or nil}
  leases.note_visit(license, lease, claimant.client, license.now)
  leases.write(license, lease, license.now, license.newest)
  return lease
end

-- A lease beyond the limit occupies no CAL as far as the gateway is concerned.
local function reply_of(license, lease, choice)
  local good_for = ''
  if lease.kind == 'session' then
    good_for = lease.ends - license.now
  elseif lease.kind == 'usage' then
    good_for = lease.granted + HOUR - license.now
  end
  local kind = lease.beyond and not license.terms.enforce and 'unenforced' or lease.kind
  return {'granted', kind, lease.id, lease.pending and 1 or 0, good_for, choice.out or 0, choice.limit or 0}
end

local function snapshots(license, why)
  local pools = {}
  for _, kind in ipairs(KINDS) do
    if license.terms[kind].in_license > 0 then pools[#pools + 1] = pool.snapshot(license, kind, why[kind]) end
  end
  return cjson.encode(pools)
end

-- Returns whether a denial of an anonymous browser was recorded lately for its network, and notes that one is: strangers
-- can make any number of cookies, and must not fill the audit stream.
local function is_recorded(license, network)
  local member = 'denied|' .. network
  if tonumber(redis.call('ZSCORE', license.ended, member) or 0) > license.now then return true end
  redis.call('ZADD', license.ended, license.now + DENIAL_KEPT, member)
  return false
end

-- Records a denial; not for the polls of a waiting page, which would be hundreds an hour.
local function deny(license, claimant, code, why)
  local pools = snapshots(license, why)
  local waits = license.terms.queue and code == 'no-cal' and not claimant.network
  local is_poll = waits and queue.polls(claimant.waiter, claimant.document)
  if not is_poll and not (claimant.network and is_recorded(license, claimant.network)) then
    record(license, license.terms.enforce and 'denied' or 'would-deny',
      fields_of(claimant, '', {'code', code, 'pools', pools}))
  end
  local place
  if waits then
    queue.join(license, claimant)
    place = queue.place(license, holder_of(claimant))
  end
  return {'denied', code, pools, place and place.place or 0, tostring(place and place.estimate or ''), is_poll and 1 or 0}
end

-- In observe mode: records the denial once, and grants a Session CAL beyond the limit, so that the whole need is recorded.
local function grant_beyond(license, claimant, held, why)
  record(license, 'would-deny', fields_of(claimant, '', {'code', 'no-cal', 'pools', snapshots(license, why)}))
  return grant(license, claimant, held, {kind = 'session', beyond = true})
end

-- Denies, once, a machine whose Named CAL another machine took over.
local function tell_taken_over(license, claimant, lease)
  local told = {}
  for _, client in ipairs(lease.told) do
    if client ~= claimant.client then told[#told + 1] = client end
  end
  local denial = deny(license, claimant, 'taken-over', {named = 'taken-over'})
  lease.told = #told > 0 and told or nil
  leases.write(license, lease, leases.last_use(license, lease))
  return denial
end

-- Claims a CAL.
-- ARGV: user, name, client, document, groups, reference, and of a lease that the gateway believes to hold (or ''):
--       kind, id, age of its last use, age of the store's last confirmation; and the network of an anonymous browser ('':
--       a user)
-- Returns {'granted', kind, id, provisional, milliseconds it is good for or '', of a new one: number occupied, limit,
--          milliseconds that the claimant waited or ''}
--      or {'denied', code, pools as JSON, position or 0, time of the estimate or '', 1 for a poll of a waiting page}
local function claim(keys, args)
  local claimant = new_claimant(args[1], args[2], args[3], args[4], lines(args[5]))
  claimant.reference = args[6]
  claimant.network = network_in(args[11])
  local license = open(keys, claimant)
  if not license then return {'unconfigured'} end
  local texts = license.texts
  if args[7] ~= '' and reassert(license, claimant, args[7], args[8], tonumber(args[9]), tonumber(args[10])) then
    texts = nil
  end
  if license.terms.queue then
    queue.tend(license)
    claimant.waiter = read(license, holder_of(claimant))
    texts = nil   -- one of the leases may have been taken for a waiter
  end
  local held = order.held(license, claimant, texts)
  local choice = order.choose(license, claimant, held)
  local lease = choice.lease
  if choice.other == 'in-use-elsewhere' then return deny(license, claimant, choice.other, {named = choice.other}) end
  if choice.other == 'taken-over' then return tell_taken_over(license, claimant, lease) end
  -- in observe mode an anonymous browser is served without a CAL: strangers must not fill the store with leases
  if choice.why and (license.terms.enforce or claimant.network) then return deny(license, claimant, 'no-cal', choice.why) end
  if choice.other == 'take-over' then take_over(license, lease, claimant) end
  if lease then
    use(license, lease, claimant)
  elseif choice.why then
    lease = grant_beyond(license, claimant, held, choice.why)
  else
    lease = grant(license, claimant, held, choice)
    if claimant.waiter then queue.leave(license, holder_of(claimant)) end
  end
  if lease.kind == 'named' and held.session then sign_out(license, held.session, 'signed-out', 'named') end
  local reply = reply_of(license, lease, choice)
  reply[#reply + 1] = claimant.waiter and license.now - claimant.waiter.since or ''
  return reply
end

-- Finds what the claimant holds for a document, by the order of consumption; takes nothing and notes no use.
-- ARGV: user, client, document. Returns as claim does, or {'none'}
local function holds(keys, args)
  local license = open(keys)
  if not license then return {'none'} end
  local claimant = new_claimant(args[1], '', args[2], args[3], NO_GROUPS)
  name_document(claimant, license.settings)
  local held = order.held(license, claimant)
  for _, kind in ipairs(KINDS) do
    local lease = held[kind]
    if lease and leases.serves(license, lease) then return reply_of(license, lease, {}) end
  end
  return {'none'}
end

redis.register_function(VERSION .. 'claim', claim)
redis.register_function{function_name = VERSION .. 'holds', callback = holds, flags = {'no-writes'}}
