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

local function fields_of(ask, kind, extra)
  local fields = {'kind', kind, 'user', ask.user, 'name', ask.name, 'client', ask.client, 'document', ask.document,
    'reference', ask.reference or ''}
  if extra then
    for _, word in ipairs(extra) do fields[#fields + 1] = word end
  end
  return fields
end

-- A failover may have forgotten a lease that a gateway still knows: it is its holder's, also beyond the limit. Not one
-- whose own clock has run out, nor one that ended: the store remembers those for longer than it trusts a gateway's word.
local function reassert(license, ask, kind, id, age, confirmed)
  if confirmed >= TRUSTED or redis.call('ZSCORE', license.ended, id) then return false end
  local granted = tonumber(id:match('^%d+'))
  local it = {id = id, kind = kind, user = ask.user, name = ask.name, client = ask.client, document = ask.document,
    groups = #ask.groups > 0 and ask.groups or nil, granted = granted, field = field_of(ask, kind)}
  local used = math.max(granted, license.now - age)
  if redis.call('HEXISTS', license.leases, it.field) == 1 then return false end
  if lease.ends(license, it, used) <= license.now then return false end
  record(license, 'reasserted', fields_of(ask, kind, {'lease', id}))
  lease.write(license, it, used)
  if not includes(license.kinds, kind) then
    license.kinds = KINDS
    set(license, {})   -- a new version, for which everybody finds out anew which kinds there are
  end
  return true
end

-- The holder of a Session CAL is gone from it: it comes back when its minimum is over, at once if that is past.
local function sign_out(license, it, what, by)
  if it.left then return end
  it.left = license.now
  local ends = lease.ends(license, it, license.now)
  if ends <= license.now then
    lease.finish(license, it, what, by)
    return
  end
  record(license, what, {'kind', it.kind, 'user', it.user, 'name', it.name, 'client', it.client, 'lease', it.id,
    'by', by or '', 'until', ends})
  lease.write(license, it, lease.last_use(license, it))
end

local function use(license, it, ask)
  local changed = false
  if it.left then
    record(license, 'came-back', fields_of(ask, it.kind, {'lease', it.id}))
    it.left, changed = nil, true
  end
  if it.pending and not includes(it.pending, ask.reference) then
    it.pending[#it.pending + 1] = ask.reference
    it.refused, changed = nil, true
  end
  if it.kind == 'named' and it.client ~= ask.client then
    it.client, changed = ask.client, true
  end
  if changed then
    lease.write(license, it, license.now)
  else
    lease.note_use(license, it, license.now)
  end
end

-- Another machine of the same user takes his Named CAL over; the one that had it is told so once.
local function take_over(license, it, ask)
  record(license, 'taken-over', fields_of(ask, it.kind, {'lease', it.id, 'from', it.client}))
  it.told = it.told or {}
  it.told[#it.told + 1] = it.client
  tell(license, it, 'taken-over')
end

local function spend(license, it)
  local field = 'spent|' .. it.id
  redis.call('HDEL', license.leases, it.field)
  redis.call('ZREM', license.usage, it.field)
  redis.call('ZREM', license.used, it.field)
  it.field = field
  lease.write(license, it, nil)
end

local function grant(license, ask, own, choice)
  local kind = choice.kind
  if choice.victim then
    lease.finish(license, choice.victim, 'reclaimed', '', {'for', ask.user})
    tell(license, choice.victim, 'reclaimed')
  end
  if ask.over then lease.bury(license, kind, field_of(ask, kind)) end
  local id = record(license, 'granted', fields_of(ask, kind, choice.out and choice.out > choice.limit and {'overdraft', '1'}), true)
  if kind == 'usage' and own.usage then spend(license, own.usage) end
  local it = {id = id, kind = kind, user = ask.user, name = ask.name, client = ask.client, document = ask.document,
    granted = license.now, by = 'dynamic', pending = {ask.reference}, field = field_of(ask, kind),
    groups = license.terms.session.shared and #ask.groups > 0 and ask.groups or nil}
  lease.write(license, it, license.now, license.now)
  return it
end

local function answer(license, it, choice)
  local good_for = ''
  if it.kind == 'session' then
    good_for = it.ends - license.now
  elseif it.kind == 'usage' then
    good_for = it.granted + HOUR - license.now
  end
  return {'granted', it.kind, it.id, it.pending and 1 or 0, good_for, choice.out or 0, choice.limit or 0}
end

local function deny(license, ask, code, why)
  local pools = {}
  for _, kind in ipairs(KINDS) do
    if license.terms[kind].in_license > 0 then pools[#pools + 1] = pool.picture(license, kind, why[kind]) end
  end
  record(license, license.terms.enforce and 'denied' or 'would-deny',
    fields_of(ask, '', {'code', code, 'pools', cjson.encode(pools)}))
  local place
  if license.terms.queue and code == 'no-cal' then
    queue.join(license, ask)
    place = queue.place(license, holder_of(ask))
  end
  return {'denied', code, cjson.encode(pools), place and place.place or 0, tostring(place and place.estimate or '')}
end

-- ARGV: user, name, client, document, groups, reference, and of a lease that the gateway believes to hold (or ''):
--       kind, id, age of its last use, age of the store's last word that it stands
-- Returns {'granted', kind, id, provisional, milliseconds it is good for or '', and of a new one how many are out, limit}
--      or {'denied', code, pools as JSON, place or 0, time of the estimate or ''}
local function claim(keys, args)
  local ask = asker(args[1], args[2], args[3], args[4], lines(args[5]))
  ask.reference = args[6]
  local license = open(keys, ask)
  if not license then return {'unconfigured'} end
  local texts = license.texts
  if args[7] ~= '' and reassert(license, ask, args[7], args[8], tonumber(args[9]), tonumber(args[10])) then texts = nil end
  if license.terms.queue then
    queue.tend(license)
    ask.waiter = read(license, holder_of(ask))
    texts = nil   -- one of them may have been taken for somebody who waits
  end
  local own = order.own(license, ask, texts)
  local choice = order.choose(license, ask, own)
  local it = choice.lease
  if choice.other == 'in-use-elsewhere' then return deny(license, ask, choice.other, {named = choice.other}) end
  if choice.other == 'taken-over' then
    local told = {}
    for _, client in ipairs(it.told) do
      if client ~= ask.client then told[#told + 1] = client end
    end
    local denial = deny(license, ask, choice.other, {named = choice.other})
    it.told = #told > 0 and told or nil
    lease.write(license, it, lease.last_use(license, it))
    return denial
  end
  if choice.why then return deny(license, ask, 'no-cal', choice.why) end
  if choice.other == 'take-over' then take_over(license, it, ask) end
  if it then use(license, it, ask) else it = grant(license, ask, own, choice) end
  if it.kind == 'named' and own.session then sign_out(license, own.session, 'signed-out', 'named') end
  if license.terms.queue then queue.leave(license, holder_of(ask)) end
  return answer(license, it, choice)
end

-- What the claimant holds for the document, by the order; takes nothing and notes no use. ARGV: user, client, document
-- Returns as claim does, or {'none'}
local function holds(keys, args)
  local license = open(keys)
  if not license then return {'none'} end
  local own = order.own(license, asker(args[1], '', args[2], args[3], {}))
  for _, kind in ipairs(KINDS) do
    local it = own[kind]
    if it and lease.serves(license, it) then return answer(license, it, {}) end
  end
  return {'none'}
end

redis.register_function(VERSION .. 'claim', claim)
redis.register_function{function_name = VERSION .. 'holds', callback = holds, flags = {'no-writes'}}
