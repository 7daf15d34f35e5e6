-- What the gateway asks for when a document is opened: claim, holds.
-- Every function answers {'unconfigured'} where the license's terms are not known yet.
-- Groups come as one text, a line each. Ages are milliseconds before now, by the gateway's own clock.

local NONE = {}

local function lines(text)
  if text == '' then return NONE end
  local list = {}
  for line in text:gmatch('[^\n]+') do list[#list + 1] = line end
  return list
end

local function fields_of(claimant, kind, extra)
  local fields = {'kind', kind, 'user', claimant.user, 'name', claimant.name, 'client', claimant.client, 'document', claimant.document,
    'reference', claimant.reference or ''}
  if extra then
    for _, word in ipairs(extra) do fields[#fields + 1] = word end
  end
  return fields
end

-- A failover may have forgotten a lease that a gateway still knows: it is its holder's, also beyond the limit. Not one
-- whose own clock has run out, nor one that ended: the store remembers those for longer than it trusts a gateway's word.
local function reassert(license, claimant, kind, id, age, confirmed)
  if confirmed >= TRUSTED or redis.call('ZSCORE', license.ended, id) then return false end
  local granted = tonumber(id:match('^%d+'))
  local lease = {id = id, kind = kind, user = claimant.user, name = claimant.name, client = claimant.client, document = claimant.document,
    groups = #claimant.groups > 0 and claimant.groups or nil, granted = granted, field = field_of(claimant, kind)}
  local used = math.max(granted, license.now - age)
  if redis.call('HEXISTS', license.leases, lease.field) == 1 then return false end
  if leases.ends(license, lease, used) <= license.now then return false end
  record(license, 'reasserted', fields_of(claimant, kind, {'lease', id}))
  leases.write(license, lease, used)
  if not includes(license.kinds, kind) then
    license.kinds = KINDS
    set(license, {})   -- a new version, for which everybody finds out anew which kinds there are
  end
  return true
end

-- The holder of a Session CAL is gone from it: it comes back when its minimum is over, at once if that is past.
local function sign_out(license, lease, what, by)
  if lease.left then return end
  lease.left = license.now
  local ends = leases.ends(license, lease, license.now)
  if ends <= license.now then
    leases.finish(license, lease, what, by)
    return
  end
  record(license, what, {'kind', lease.kind, 'user', lease.user, 'name', lease.name, 'client', lease.client, 'lease', lease.id,
    'by', by or '', 'until', ends})
  leases.write(license, lease, leases.last_use(license, lease))
end

local function use(license, lease, claimant)
  local changed = false
  if lease.left then
    record(license, 'came-back', fields_of(claimant, lease.kind, {'lease', lease.id}))
    lease.left, changed = nil, true
  end
  if lease.pending and not includes(lease.pending, claimant.reference) then
    lease.pending[#lease.pending + 1] = claimant.reference
    lease.refused, changed = nil, true
  end
  if lease.kind == 'named' and lease.client ~= claimant.client then
    lease.client, changed = claimant.client, true
  end
  if changed then
    leases.write(license, lease, license.now)
  else
    leases.note_use(license, lease, license.now)
  end
end

-- Another machine of the same user takes his Named CAL over; the one that had it is told so once.
local function take_over(license, lease, claimant)
  record(license, 'taken-over', fields_of(claimant, lease.kind, {'lease', lease.id, 'from', lease.client}))
  lease.told = lease.told or {}
  lease.told[#lease.told + 1] = lease.client
  publish_lost(license, lease, 'taken-over')
end

local function spend(license, lease)
  local field = 'spent|' .. lease.id
  redis.call('HDEL', license.leases, lease.field)
  redis.call('ZREM', license.usage, lease.field)
  redis.call('ZREM', license.used, lease.field)
  lease.field = field
  leases.write(license, lease, nil)
end

local function grant(license, claimant, held, choice)
  local kind = choice.kind
  if choice.victim then
    leases.finish(license, choice.victim, 'reclaimed', '', {'for', claimant.user})
    publish_lost(license, choice.victim, 'reclaimed')
  end
  if claimant.over then leases.expire(license, kind, field_of(claimant, kind)) end
  local id = record(license, 'granted', fields_of(claimant, kind, choice.out and choice.out > choice.limit and {'overdraft', '1'}), true)
  if kind == 'usage' and held.usage then spend(license, held.usage) end
  local lease = {id = id, kind = kind, user = claimant.user, name = claimant.name, client = claimant.client, document = claimant.document,
    granted = license.now, by = 'dynamic', pending = {claimant.reference}, field = field_of(claimant, kind),
    groups = license.terms.session.shared and #claimant.groups > 0 and claimant.groups or nil}
  leases.write(license, lease, license.now, license.now)
  return lease
end

local function reply_of(license, lease, choice)
  local good_for = ''
  if lease.kind == 'session' then
    good_for = lease.ends - license.now
  elseif lease.kind == 'usage' then
    good_for = lease.granted + HOUR - license.now
  end
  return {'granted', lease.kind, lease.id, lease.pending and 1 or 0, good_for, choice.out or 0, choice.limit or 0}
end

local function deny(license, claimant, code, why)
  local pools = {}
  for _, kind in ipairs(KINDS) do
    if license.terms[kind].in_license > 0 then pools[#pools + 1] = pool.snapshot(license, kind, why[kind]) end
  end
  record(license, license.terms.enforce and 'denied' or 'would-deny',
    fields_of(claimant, '', {'code', code, 'pools', cjson.encode(pools)}))
  local place
  if license.terms.queue and code == 'no-cal' then
    queue.join(license, claimant)
    place = queue.place(license, holder_of(claimant))
  end
  return {'denied', code, cjson.encode(pools), place and place.place or 0, tostring(place and place.estimate or '')}
end

-- ARGV: user, name, client, document, groups, reference, and of a lease that the gateway believes to hold (or ''):
--       kind, id, age of its last use, age of the store's last word that it stands
-- Returns {'granted', kind, id, provisional, milliseconds it is good for or '', and of a new one how many are out, limit}
--      or {'denied', code, pools as JSON, place or 0, time of the estimate or ''}
local function claim(keys, args)
  local claimant = new_claimant(args[1], args[2], args[3], args[4], lines(args[5]))
  claimant.reference = args[6]
  local license = open(keys, claimant)
  if not license then return {'unconfigured'} end
  local texts = license.texts
  if args[7] ~= '' and reassert(license, claimant, args[7], args[8], tonumber(args[9]), tonumber(args[10])) then texts = nil end
  if license.terms.queue then
    queue.tend(license)
    claimant.waiter = read(license, holder_of(claimant))
    texts = nil   -- one of them may have been taken for somebody who waits
  end
  local held = order.held(license, claimant, texts)
  local choice = order.choose(license, claimant, held)
  local lease = choice.lease
  if choice.other == 'in-use-elsewhere' then return deny(license, claimant, choice.other, {named = choice.other}) end
  if choice.other == 'taken-over' then
    local told = {}
    for _, client in ipairs(lease.told) do
      if client ~= claimant.client then told[#told + 1] = client end
    end
    local denial = deny(license, claimant, choice.other, {named = choice.other})
    lease.told = #told > 0 and told or nil
    leases.write(license, lease, leases.last_use(license, lease))
    return denial
  end
  if choice.why then return deny(license, claimant, 'no-cal', choice.why) end
  if choice.other == 'take-over' then take_over(license, lease, claimant) end
  if lease then use(license, lease, claimant) else lease = grant(license, claimant, held, choice) end
  if lease.kind == 'named' and held.session then sign_out(license, held.session, 'signed-out', 'named') end
  if license.terms.queue then queue.leave(license, holder_of(claimant)) end
  return reply_of(license, lease, choice)
end

-- What the claimant holds for the document, by the order; takes nothing and notes no use. ARGV: user, client, document
-- Returns as claim does, or {'none'}
local function holds(keys, args)
  local license = open(keys)
  if not license then return {'none'} end
  local held = order.held(license, new_claimant(args[1], '', args[2], args[3], {}))
  for _, kind in ipairs(KINDS) do
    local lease = held[kind]
    if lease and leases.serves(license, lease) then return reply_of(license, lease, {}) end
  end
  return {'none'}
end

redis.register_function(VERSION .. 'claim', claim)
redis.register_function{function_name = VERSION .. 'holds', callback = holds, flags = {'no-writes'}}
