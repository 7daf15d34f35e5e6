#!lua name=calgate_cal_v3
local VERSION = 'calgate_cal_v3_'
local function clock() return tonumber(redis.call('GET', 'test:clock')) end
-- A license as a function sees it: its keys, terms, settings and the time.
--
-- KEYS of every function, in this order; all of them, so that a Cluster that is moving the slot refuses the whole call
-- before it begins instead of failing in the middle:
--   state     hash: "terms" (JSON, from the settings file), and what administrators changed while running: "limit:<kind>", "dynamic:<kind>", "allocated:<document>", "dynamic:document:<document>"
--   leases    hash: lease field -> what was agreed, as MessagePack: a third of the time of JSON; and
--             "@newest" (time of the last record) and "@version" (a hash of everything that was ever set in "state"), here
--             because every decision reads them, and one command less is a tenth of its time
--   named, document, session, usage
--             sorted sets: lease field -> when it comes back by itself (FOREVER: never). These are the pools: how many
--             are out is counted from them at each decision and stored nowhere
--   used      sorted set: lease field -> last use, of Named, Document and Usage CALs
--   idle      sorted set: lease field -> last use, of Session CALs: the least recently used first
--   shares    sorted set, all scores 0, ordered as text: "<share>\0<until>\0<member>"; one range is one share of a pool
--             ("d:" a document's CALs, "g:" a group's, "o:" those offered to people who wait)
--   ended     sorted set: id of an ended lease -> until when that is remembered
--   queue     sorted set: "<user>|<client>" -> place in order of coming
--   waiting   hash: "<user>|<client>" -> JSON of what is waited for
--   classes   sorted set, all scores 0: "<class>\0<place>\0<user>|<client>": who waits without an offer, alike by alike
--   places    sorted set: "<user>|<client>" -> until when the place is kept
--   audit     stream: every decision and every change, written before the change itself
local KEYS = {
  'state', 'leases', 'named', 'document', 'session', 'usage', 'used', 'idle', 'shares', 'ended',
  'queue', 'waiting', 'classes', 'places', 'audit',
}
local KINDS = {'named', 'document', 'session', 'usage'}
-- Names that every decision needs: joining two strings costs as much as asking the server for a number.
local LIMIT = {named = 'limit:named', document = 'limit:document', session = 'limit:session', usage = 'limit:usage'}
local DYNAMIC = {named = 'dynamic:named', document = 'dynamic:document'}
local OFFERS = {named = 'o:named', document = 'o:document', session = 'o:session', usage = 'o:usage'}
local FOREVER = 9999999999999   -- the year 2286; thirteen digits like every time of this century
local ENDED_KEPT = 7200 * 1000  -- how long an ended lease is remembered; longer than
local TRUSTED = 3600 * 1000     -- the time for which a gateway's word counts that a lease was confirmed to it

-- What is the same from call to call, by state key: the names of the keys as an index of every license table, and terms
-- and settings as read for a version. Two equal versions have equal settings, so this cannot be stale.
local known = {}

local function named_keys(keys)
  local names = {}
  for index, name in ipairs(KEYS) do names[name] = keys[index] end
  return {index = {__index = names}}
end

-- The kinds that a claim has to look for: those that were bought, and those of which some are still out. Of the others
-- there can be none until the version changes, and what is not looked for costs a claim nothing.
local function kinds_of(keys, terms)
  local kinds = {}
  for _, kind in ipairs(KINDS) do
    if terms[kind].in_license > 0 or redis.call('ZCARD', keys[kind]) > 0 then kinds[#kinds + 1] = kind end
  end
  return kinds
end

local function read_settings(here, version)
  local keys = here.index.__index
  here.version, here.settings = version, {}
  local state = redis.call('HGETALL', keys.state)
  for index = 1, #state, 2 do here.settings[state[index]] = state[index + 1] end
  here.terms = cjson.decode(here.settings.terms)
  here.kinds = kinds_of(keys, here.terms)
end

-- The name of somebody's lease of a kind among the leases, joined when it is first asked for.
local function field_of(claimant, kind)
  local field = claimant.field[kind]
  if field then return field end
  if kind == 'named' then
    field = 'named|' .. claimant.user
  else
    field = kind .. '|' .. claimant.user .. '|' .. (kind == 'session' and claimant.client or claimant.document)
  end
  claimant.field[kind] = field
  return field
end

local function held_fields(claimant, kinds, index)
  index = index or 1
  if not kinds[index] then return end
  return field_of(claimant, kinds[index]), held_fields(claimant, kinds, index + 1)
end

-- Answers nil for a license that no gateway has configured yet, and then what is known without. The texts of the leases
-- that somebody may have are fetched by the way where he is given: they are `texts` of the answer.
local function open(keys, claimant)
  local here = known[keys[1]]
  if not here then
    here = named_keys(keys)
    known[keys[1]] = here
  end
  local texts
  if claimant and here.kinds then
    texts = redis.call('HMGET', keys[2], '@version', '@newest', held_fields(claimant, here.kinds))
  else
    texts = redis.call('HMGET', keys[2], '@version', '@newest')
  end
  local now = math.max(clock(), tonumber(texts[2] or 0))
  if not texts[1] then return nil, setmetatable({now = now}, here.index) end
  local fetched = claimant and here.version == texts[1] and texts or nil
  if here.version ~= texts[1] then read_settings(here, texts[1]) end
  return setmetatable({now = now, texts = fetched, terms = here.terms, settings = here.settings, kinds = here.kinds},
    here.index)
end

-- Changes settings: {name = value or false, …}. The version says what was set, after what.
local function set(license, values)
  local said = {redis.call('HGET', license.leases, '@version') or ''}
  for name, value in pairs(values) do said[#said + 1] = name .. '\0' .. (value or '') end
  table.sort(said)
  for name, value in pairs(values) do
    if value then
      redis.call('HSET', license.state, name, value)
    else
      redis.call('HDEL', license.state, name)
    end
  end
  redis.call('HSET', license.leases, '@version', redis.sha1hex(table.concat(said, '\1')))
end

-- What is in force for a kind: the administrator's limit, else the file's, never more than was bought.
local function limit_of(license, kind)
  local terms = license.terms[kind]
  return math.min(tonumber(license.settings[LIMIT[kind]] or terms.limit), terms.in_license)
end

-- Writes the record of what is decided; comes before every change of state. Answers its id, which for a new lease
-- becomes the lease's own. `newest` is left to the change that follows where `later` is given.
local function record(license, what, fields, later)
  local id = redis.call('XADD', license.audit, license.now .. '-*', 'what', what, unpack(fields))
  if not later then redis.call('HSET', license.leases, '@newest', license.now) end
  return id
end

-- Drops records that are old enough, whole blocks and so many of them at once as the server thinks right. Not with each
-- record: looking whether there is something to drop takes as long as writing one.
local function drop_old_records(license)
  redis.call('XTRIM', license.audit, 'MINID', '~', math.max(license.now - license.terms.audit_keep, 0))
end

-- Tells all gateways, in the same step, that a lease is not to be relied on any more.
local function publish_lost(license, lease, reason)
  redis.call('PUBLISH', license.terms.channel,
    cjson.encode({topic = 'lease-lost', subject = lease.id, reason = reason}))
end

-- Leases: their names, their clocks, how they begin and end.
--
-- A lease is {id, kind, user, name, client, document, granted, by, groups …}. Its field in the hash says whose it is:
--   named|<user>   document|<user>|<document>   session|<user>|<client>   usage|<user>|<document>
-- and spent|<id> for a Usage CAL whose hour is over, until its 28 days are.
-- Beyond that: `pending` (references of requests that have not been answered yet; where there is such a list, though an
-- empty one, the lease is provisional), `refused` (one of them was, while others were under way),
-- `left` (signed out at), `removed` (by an administrator, at), `told` (clients that are to be told of a take-over).
local HOUR = 3600 * 1000
local USAGE_KEPT = 28 * 24 * HOUR
local leases = {}

function leases.field(kind, user, client, document)
  return field_of({user = user, client = client, document = document, field = {}}, kind)
end

-- The sorted set that knows the last use.
local function uses(license, kind)
  return kind == 'session' and license.idle or license.used
end

local function unused_for(terms, lease, used)
  return lease.by == 'dynamic' and terms.return_after and used + terms.return_after or FOREVER
end

-- When a lease comes back by itself, if it is not used again.
function leases.ends(license, lease, used)
  local terms = license.terms[lease.kind]
  local ends
  if lease.kind == 'session' then
    ends = math.max(lease.granted + terms.minimum, lease.left or used + terms.idle_timeout)
    ends = math.min(ends, lease.granted + (terms.maximum or FOREVER))
  elseif lease.kind == 'usage' then
    ends = lease.granted + USAGE_KEPT
  elseif lease.removed then
    ends = used and used + terms.quarantine or lease.removed
  else
    ends = used and unused_for(terms, lease, used) or FOREVER
    if ends < FOREVER then ends = math.max(ends, used + terms.quarantine) end
  end
  if lease.pending then ends = math.min(ends, lease.granted + license.terms.provisional) end
  return math.min(ends, FOREVER)
end

-- The lease of a field with `until` and `used`, or nil if there is none or its time is over.
function leases.read(license, kind, field, text)
  text = text or redis.call('HGET', license.leases, field)
  if not text then return nil end
  local ends = tonumber(redis.call('ZSCORE', license[kind], field) or 0)
  if ends <= license.now then return nil end
  local lease = cmsgpack.unpack(text)
  lease.field, lease.ends = field, ends
  return lease
end

function leases.last_use(license, lease)
  return tonumber(redis.call('ZSCORE', uses(license, lease.kind), lease.field) or nil)
end

-- Whether it still serves its owner: not when removed, nor when unused for so long that it was returned.
function leases.serves(license, lease)
  if lease.removed then return false end
  if lease.kind == 'usage' then return license.now < lease.granted + HOUR end
  local terms = license.terms[lease.kind]
  if lease.by ~= 'dynamic' or not terms.return_after then return true end
  return license.now < unused_for(terms, lease, leases.last_use(license, lease) or license.now)
end

local function share_member(share, ends, member)
  return share .. '\0' .. string.format('%013.0f', ends) .. '\0' .. member
end

-- The shares of its pool that a lease, or an offer of one, takes up.
local function shares_of(kind, lease)
  if kind == 'document' then return {'d:' .. lease.document} end
  if kind ~= 'session' then return {} end
  local shares = {}
  for _, group in ipairs(lease.groups or {}) do shares[#shares + 1] = 'g:' .. group end
  return shares
end

local function has_shares(license, kind)
  return kind == 'document' or (kind == 'session' and license.terms.session.shared)
end

local function occupy_shares(license, kind, lease, ends, member)
  if not has_shares(license, kind) then return end
  for _, share in ipairs(shares_of(kind, lease)) do
    redis.call('ZADD', license.shares, 0, share_member(share, ends, member))
  end
end

local function free_shares(license, kind, lease, ends, member)
  if not has_shares(license, kind) then return end
  for _, share in ipairs(shares_of(kind, lease)) do
    redis.call('ZREM', license.shares, share_member(share, ends, member))
  end
end

-- As it is stored: without what is known of it from elsewhere.
local function encode(lease)
  local field, ends, last_used = lease.field, lease.ends, lease.last_used
  lease.field, lease.ends, lease.last_used = nil, nil, nil
  local text = cmsgpack.pack(lease)
  lease.field, lease.ends, lease.last_used = field, ends, last_used
  return text
end

-- Writes what changed about a lease and the time when it comes back; and the newest time, where that was left to it.
function leases.write(license, lease, used, newest)
  local ends = leases.ends(license, lease, used)
  if newest then
    redis.call('HSET', license.leases, lease.field, encode(lease), '@newest', newest)
  else
    redis.call('HSET', license.leases, lease.field, encode(lease))
  end
  if lease.ends and lease.ends ~= ends then free_shares(license, lease.kind, lease, lease.ends, lease.field) end
  redis.call('ZADD', license[lease.kind], ends, lease.field)
  if used then redis.call('ZADD', uses(license, lease.kind), used, lease.field) end
  occupy_shares(license, lease.kind, lease, ends, lease.field)
  lease.ends = ends
end

-- Notes a use, nothing else of the lease having changed.
function leases.note_use(license, lease, used)
  local ends = leases.ends(license, lease, used)
  redis.call('ZADD', uses(license, lease.kind), used, lease.field)
  if ends == lease.ends then return end
  redis.call('ZADD', license[lease.kind], ends, lease.field)
  if has_shares(license, lease.kind) then
    free_shares(license, lease.kind, lease, lease.ends, lease.field)
    occupy_shares(license, lease.kind, lease, ends, lease.field)
  end
  lease.ends = ends
end

-- Takes a lease out of the books; the record of it has been written.
local function forget(license, lease)
  redis.call('HDEL', license.leases, lease.field)
  redis.call('ZREM', license[lease.kind], lease.field)
  redis.call('ZREM', uses(license, lease.kind), lease.field)
  redis.call('ZADD', license.ended, license.now + ENDED_KEPT, lease.id)
  free_shares(license, lease.kind, lease, lease.ends, lease.field)
end

-- Ends a lease for a reason: record first, then state.
function leases.finish(license, lease, what, by, extra)
  local fields = {'kind', lease.kind, 'user', lease.user, 'name', lease.name, 'client', lease.client or '',
    'document', lease.document or '', 'lease', lease.id, 'ended', math.min(lease.ends, license.now), 'by', by or ''}
  for _, word in ipairs(extra or {}) do fields[#fields + 1] = word end
  record(license, what, fields)
  forget(license, lease)
end

-- A lease whose time is over although nobody has looked since.
function leases.expire(license, kind, field)
  local text = redis.call('HGET', license.leases, field)
  local ends = redis.call('ZSCORE', license[kind], field)
  if not text or not ends or tonumber(ends) > license.now then return end
  local lease = cmsgpack.unpack(text)
  lease.field, lease.ends = field, tonumber(ends)
  local what = 'expired'
  if lease.pending then what = 'taken-back' elseif lease.left then what = 'released' end
  leases.finish(license, lease, what, 'clock')
end

-- Ends what is due, a bounded number of each kind; how many are out does not depend on it.
function leases.sweep(license, most)
  for _, kind in ipairs(KINDS) do
    for _, field in ipairs(redis.call('ZRANGE', license[kind], '-inf', license.now, 'BYSCORE', 'LIMIT', 0, most)) do
      leases.expire(license, kind, field)
    end
  end
  for _, id in ipairs(redis.call('ZRANGE', license.ended, '-inf', license.now, 'BYSCORE', 'LIMIT', 0, most)) do
    redis.call('ZREM', license.ended, id)
  end
end

-- Pools: how many CALs are out, and how many one claimant could still have. Everything is counted where it is asked.
local pool = {}

function pool.occupied(license, kind)
  return redis.call('ZCOUNT', license[kind], '(' .. license.now, '+inf')
end

-- How many of a share are out or offered.
function pool.share(license, share)
  local after = share .. '\0' .. string.format('%013.0f', license.now) .. '\1'
  return redis.call('ZLEXCOUNT', license.shares, '(' .. after, '(' .. share .. '\1')
end

local function includes(list, wanted)
  for _, value in ipairs(list or {}) do
    if value == wanted then return true end
  end
  return false
end

-- Whether a new CAL of this kind may be assigned to the claimant by itself.
function pool.is_dynamic(license, kind, claimant)
  local terms = license.terms[kind]
  local set = kind == 'document' and license.settings['dynamic:document:' .. claimant.document]
    or license.settings[DYNAMIC[kind]]
  local on = terms.dynamic
  if set then on = set == '1' end
  if not on then return false end
  if not terms.dynamic_for then return true end
  for _, group in ipairs(claimant.groups) do
    if includes(terms.dynamic_for, group) then return true end
  end
  return false
end

function pool.allocated(license, document)
  return tonumber(license.settings['allocated:' .. document] or 0)
end

-- How many of a share are out or offered, not counting what would be given up first: a lease that is taken away, the
-- claimant's own offer.
local function share_less(license, kind, share, given_up)
  local count = pool.share(license, share)
  for _, lease in pairs(given_up) do
    if includes(shares_of(kind, lease), share) then count = count - 1 end
  end
  return count
end

-- Seats kept for groups that the claimant is not in.
local function kept_for_others(license, claimant, given_up)
  local kept = 0
  for _, reserve in ipairs(license.terms.session.reserve) do
    if not includes(claimant.groups, reserve.group) then
      kept = kept + math.max(0, reserve.cals - share_less(license, 'session', 'g:' .. reserve.group, given_up))
    end
  end
  return kept
end

local function is_capped(license, claimant, given_up)
  for _, cap in ipairs(license.terms.session.max) do
    if includes(claimant.groups, cap.group) and share_less(license, 'session', 'g:' .. cap.group, given_up) >= cap.cals then
      return true
    end
  end
  return false
end

-- Can the claimant have one more CAL of this kind? Answers whether, then a word why not, then how many are out with it
-- and what the limit is (more than that is overdraft). `without` is a lease that would be taken away first.
function pool.has_room(license, kind, claimant, without)
  local limit = limit_of(license, kind)
  local most = limit + (license.terms[kind].overdraft or 0)
  local out = pool.occupied(license, kind) - (without and 1 or 0)
  if out >= most then return false, 'full' end
  local mine = claimant.waiter and claimant.waiter.offer == kind and claimant.waiter or nil
  local offered = license.terms.queue and pool.share(license, OFFERS[kind]) - (mine and 1 or 0) or 0
  local given_up = {without = without, mine = mine}
  if kind == 'document' then
    local out_of_it = share_less(license, kind, 'd:' .. claimant.document, given_up)
    if out_of_it >= pool.allocated(license, claimant.document) then return false, 'full' end
  elseif kind == 'session' and license.terms.session.shared then
    if is_capped(license, claimant, given_up) then return false, 'capped' end
    local kept = kept_for_others(license, claimant, given_up)
    if out + offered < most and out + offered + kept >= most then return false, 'reserved' end
  end
  if out + offered >= most then return false, 'promised' end
  return true, '', out + 1, limit
end

-- The Session CAL to take away so that the claimant can have one: idle long enough, past its minimum, the least recently
-- used first. Looks at no more than a hundred; without reserves and caps the first will do.
function pool.reclaimable(license, claimant)
  local terms = license.terms.session
  if not terms.reclaimable_after or limit_of(license, 'session') == 0 then return nil end
  local idle = redis.call('ZRANGE', license.idle, '-inf', license.now - terms.reclaimable_after, 'BYSCORE',
    'LIMIT', 0, 100)
  for _, field in ipairs(idle) do
    local lease = leases.read(license, 'session', field)
    if lease and lease.granted + terms.minimum <= license.now and pool.has_room(license, 'session', claimant, lease) then return lease end
  end
  return nil
end

-- When the least recently used Session CAL can be reclaimed. Those whose time is over and that nobody has ended yet are
-- passed over.
local function ripe_at(license)
  local terms = license.terms.session
  if not terms.reclaimable_after then return FOREVER end
  for _, field in ipairs(redis.call('ZRANGE', license.idle, 0, 99)) do
    local lease = leases.read(license, 'session', field)
    if lease then
      local ripe = math.max(lease.granted + terms.minimum, leases.last_use(license, lease) + terms.reclaimable_after)
      return math.max(ripe, license.now)
    end
  end
  return FOREVER
end

-- When the next CAL of a kind can come free by itself, or be reclaimed; nil: not by itself.
function pool.free_at(license, kind)
  local first = redis.call('ZRANGE', license[kind], '(' .. license.now, FOREVER - 1, 'BYSCORE', 'LIMIT', 0, 1,
    'WITHSCORES')[2]
  local free = tonumber(first or FOREVER)
  if kind == 'session' then free = math.min(free, ripe_at(license)) end
  return free < FOREVER and free or nil
end

-- How full one pool is, for people: {kind, limit, occupied, free_at, note}.
function pool.snapshot(license, kind, note)
  return {kind = kind, limit = limit_of(license, kind), occupied = pool.occupied(license, kind),
    free_at = pool.free_at(license, kind), note = note or ''}
end

-- The order of consumption: which CAL serves one claim. Reads only.
local order = {}

-- Somebody who asks; `field` is filled by field_of.
local function new_claimant(user, name, client, document, groups)
  return {user = user, name = name, client = client, document = document, groups = groups, field = {}}
end

local function holder_of(claimant)
  return claimant.user .. '|' .. claimant.client
end

-- What he has already, by kind; `texts` are those of his leases as `open` fetched them, behind two others.
function order.held(license, claimant, texts)
  local held, first = {}, 2
  if not texts then
    if #license.kinds == 0 then return held end
    texts, first = redis.call('HMGET', license.leases, held_fields(claimant, license.kinds)), 0
  end
  for index, kind in ipairs(license.kinds) do
    local text = texts[first + index]
    if text then
      held[kind] = leases.read(license, kind, field_of(claimant, kind), text)
      if not held[kind] then claimant.over = kind end   -- its time is over and nobody has ended it yet
    end
  end
  return held
end

-- A Named CAL that another machine uses: nil (no matter), or what is to happen.
local function other_client(license, lease, claimant)
  local policy = license.terms.named.other_client
  if policy == 'allow' then return nil end
  if includes(lease.told, claimant.client) then return 'taken-over' end
  if lease.client == '' or lease.client == claimant.client then return nil end
  local used = leases.last_use(license, lease)
  if not used or used + license.terms.session.idle_timeout <= license.now then return nil end
  return policy == 'refuse' and 'in-use-elsewhere' or 'take-over'
end

local function use_held(license, claimant, held, kind)
  local lease = held[kind]
  if not lease or not leases.serves(license, lease) then return nil end
  return {lease = lease, other = kind == 'named' and other_client(license, lease, claimant) or nil}
end

local function take_new(license, claimant, held, kind, why)
  if license.terms[kind].in_license == 0 then return nil end
  if kind == 'named' or kind == 'document' then
    if held[kind] then
      why[kind] = 'quarantined'   -- it occupies its place, and nobody has two
      return nil
    end
    if kind == 'document' and pool.allocated(license, claimant.document) == 0 then
      why[kind] = 'not-allocated'
      return nil
    end
    if not pool.is_dynamic(license, kind, claimant) then
      why[kind] = 'not-assigned'
      return nil
    end
  end
  local room, word, out, limit = pool.has_room(license, kind, claimant)
  if room then return {kind = kind, out = out, limit = limit} end
  why[kind] = word
  return nil
end

local function reclaim(license, claimant)
  local victim = pool.reclaimable(license, claimant)
  return victim and {kind = 'session', victim = victim}
end

-- The vendor's order, steps 1 to 6; only who would be denied takes from somebody idle.
local STEPS = {
  {use_held, 'named'}, {use_held, 'document'}, {take_new, 'named'}, {take_new, 'document'}, {use_held, 'session'}, {take_new, 'session'},
  {use_held, 'usage'}, {take_new, 'usage'}, {reclaim, 'session'},
}

-- Of these, the ones for kinds that there are: worked out once, and kept with the kinds.
local function steps_for(kinds)
  if not kinds.steps then
    kinds.steps = {}
    for _, step in ipairs(STEPS) do
      if includes(kinds, step[2]) then table.insert(kinds.steps, step) end
    end
  end
  return kinds.steps
end

-- {lease, other}: one that he has. {kind, out, limit, victim}: a new one, with which so many are out. {why}: none, and a word for each kind.
function order.choose(license, claimant, held)
  local why = {}
  for _, step in ipairs(steps_for(license.kinds)) do
    local choice = step[1](license, claimant, held, step[2], why)
    if choice then return choice end
  end
  return {why = why}
end

-- Who was denied waits in order of coming. A CAL that comes free is offered to the first who can use it; while the offer
-- stands it is nobody else's. Who stops asking loses his place; who lets an offer lapse, too.
local PLACE_KEPT = 30 * 1000
local OFFER_STANDS = 60 * 1000
local MOST_WAITING = 1000
local queue = {}
-- In patterns a NUL is written %z.

-- Those who can use the same CALs wait in one class, so that one look at its first decides for all.
local function class_member(waiter)
  local groups = {unpack(waiter.groups or {})}
  table.sort(groups)
  local class = waiter.document .. '\n' .. table.concat(groups, '\n')
  return class .. '\0' .. string.format('%013.0f', waiter.seq) .. '\0' .. holder_of(waiter), class
end

local function offer_member(waiter)
  return 'offer|' .. string.format('%013.0f', waiter.seq) .. '|' .. holder_of(waiter)
end

local function save(license, waiter)
  local stored = {}
  for name, value in pairs(waiter) do
    if not (type(value) == 'table' and #value == 0) then stored[name] = value end
  end
  redis.call('HSET', license.waiting, holder_of(waiter), cjson.encode(stored))
end

local function read(license, holder)
  local text = redis.call('HGET', license.waiting, holder)
  return text and cjson.decode(text) or nil
end

local function drop_offer(license, waiter)
  if not waiter.offer then return end
  redis.call('ZREM', license.shares, share_member('o:' .. waiter.offer, waiter.offer_until, offer_member(waiter)))
  free_shares(license, waiter.offer, waiter, waiter.offer_until, offer_member(waiter))
  waiter.offer, waiter.offer_until = nil, nil
end

local function record_waiter(license, what, waiter, extra)
  record(license, what, {'user', waiter.user, 'name', waiter.name, 'client', waiter.client, 'document', waiter.document,
    unpack(extra or {})})
end

-- Takes somebody out of the queue; `what` is recorded unless the record of what he got says it already.
function queue.leave(license, holder, what)
  if not license.terms.queue then return end
  local waiter = read(license, holder)
  if not waiter then return end
  if what then record_waiter(license, what, waiter) end
  drop_offer(license, waiter)
  redis.call('ZREM', license.classes, (class_member(waiter)))
  redis.call('ZREM', license.queue, holder)
  redis.call('ZREM', license.places, holder)
  redis.call('HDEL', license.waiting, holder)
end

-- Denied: joins the queue, or keeps the place he has. Who asks for what his offer does not serve keeps the offer.
function queue.join(license, claimant)
  local waiter = read(license, holder_of(claimant))
  if waiter and waiter.offer then return end
  if not waiter then
    if redis.call('ZCARD', license.queue) >= MOST_WAITING then return end
    local last = redis.call('ZRANGE', license.queue, -1, -1, 'WITHSCORES')[2]
    waiter = {user = claimant.user, name = claimant.name, client = claimant.client, document = claimant.document, groups = claimant.groups,
      seq = tonumber(last or 0) + 1, since = license.now}
    record_waiter(license, 'waits', waiter)
    redis.call('ZADD', license.queue, waiter.seq, holder_of(claimant))
  else
    redis.call('ZREM', license.classes, (class_member(waiter)))
    waiter.document, waiter.groups = claimant.document, claimant.groups
  end
  save(license, waiter)
  redis.call('ZADD', license.classes, 0, (class_member(waiter)))
  redis.call('ZADD', license.places, license.now + PLACE_KEPT, holder_of(claimant))
end

local function as_claimant(waiter)
  local claimant = new_claimant(waiter.user, waiter.name, waiter.client, waiter.document, waiter.groups or {})
  claimant.waiter = waiter
  return claimant
end

local function drop_the_gone(license)
  for _, holder in ipairs(redis.call('ZRANGE', license.places, '-inf', license.now, 'BYSCORE', 'LIMIT', 0, 100)) do
    local waiter = read(license, holder)
    queue.leave(license, holder, waiter and waiter.offer and 'offer-lapsed' or 'gave-up')
  end
end

-- All who hold an offer, the last comer first.
local function offered(license)
  local waiters = {}
  for _, member in ipairs(redis.call('ZRANGE', license.shares, '[o:', '(o;', 'BYLEX')) do
    local holder = member:match('%zoffer|%d+|(.*)$')
    local waiter = read(license, holder)
    if waiter then waiters[#waiters + 1] = waiter end
  end
  table.sort(waiters, function(a, b) return a.seq > b.seq end)
  return waiters
end

-- An offer that can no longer be kept (a limit was lowered): the last comer goes back to waiting.
local function revoke(license)
  for _, waiter in ipairs(offered(license)) do
    if not pool.has_room(license, waiter.offer, as_claimant(waiter)) then
      record_waiter(license, 'offer-revoked', waiter, {'kind', waiter.offer})
      drop_offer(license, waiter)
      save(license, waiter)
      redis.call('ZADD', license.classes, 0, (class_member(waiter)))
      redis.call('ZADD', license.places, license.now + PLACE_KEPT, holder_of(waiter))
    end
  end
end

-- The first of a class who can really use what the class could: nobody who has something by now.
local function first_of(license, class, first)
  local member = first
  while member do
    local waiter = read(license, member:match('%z%d+%z(.*)$'))
    local claimant = as_claimant(waiter)
    local choice = order.choose(license, claimant, order.held(license, claimant))
    if choice.kind then return waiter, choice end
    member = redis.call('ZRANGE', license.classes, '(' .. member, '(' .. class .. '\1', 'BYLEX', 'LIMIT', 0, 1)[1]
  end
  return nil
end

-- The first comer, over all classes, for whom there is a CAL, and which.
local function next_to_serve(license)
  local best, best_choice
  local member = redis.call('ZRANGE', license.classes, '-', '+', 'BYLEX', 'LIMIT', 0, 1)[1]
  while member do
    local class, holder = member:match('^(.*)%z%d+%z(.*)$')
    if order.choose(license, as_claimant(read(license, holder)), {}).kind then
      local waiter, choice = first_of(license, class, member)
      if waiter and (not best or waiter.seq < best.seq) then best, best_choice = waiter, choice end
    end
    member = redis.call('ZRANGE', license.classes, '(' .. class .. '\1', '+', 'BYLEX', 'LIMIT', 0, 1)[1]
  end
  return best, best_choice
end

local function offer(license, waiter, choice)
  if choice.victim then
    leases.finish(license, choice.victim, 'reclaimed', 'queue')
    publish_lost(license, choice.victim, 'reclaimed')
  end
  record_waiter(license, 'offered', waiter, {'kind', choice.kind})
  redis.call('ZREM', license.classes, (class_member(waiter)))
  waiter.offer, waiter.offer_until = choice.kind, license.now + OFFER_STANDS
  redis.call('ZADD', license.shares, 0, share_member('o:' .. waiter.offer, waiter.offer_until, offer_member(waiter)))
  occupy_shares(license, waiter.offer, waiter, waiter.offer_until, offer_member(waiter))
  save(license, waiter)
  redis.call('ZADD', license.places, waiter.offer_until, holder_of(waiter))
end

-- Brings the queue up to now: comes before every decision, so that nobody overtakes.
function queue.tend(license)
  if not license.terms.queue or redis.call('ZCARD', license.queue) == 0 then return end
  drop_the_gone(license)
  revoke(license)
  local waiter, choice = next_to_serve(license)
  while waiter do
    offer(license, waiter, choice)
    waiter, choice = next_to_serve(license)
  end
end

-- When one comes free for the n-th who waits, as far as the clocks of what is out tell.
local function estimate(license, place)
  local soonest = FOREVER
  for _, kind in ipairs(KINDS) do
    local ends = redis.call('ZRANGE', license[kind], '(' .. license.now, FOREVER - 1, 'BYSCORE', 'LIMIT', place - 1, 1,
      'WITHSCORES')[2]
    soonest = math.min(soonest, tonumber(ends or FOREVER))
  end
  return soonest < FOREVER and soonest or nil
end

-- {place, estimate, offer_until}; nil: he does not wait.
function queue.place(license, holder)
  local rank = redis.call('ZRANK', license.queue, holder)
  if not rank then return nil end
  local waiter = read(license, holder)
  return {place = rank + 1, estimate = estimate(license, rank + 1), offer_until = waiter.offer_until}
end

-- After a change of terms: the offers' shares anew; a queue that was switched off is forgotten.
function queue.rebuild(license)
  if not license.terms.queue then
    redis.call('DEL', license.queue, license.waiting, license.classes, license.places)
    return
  end
  for _, holder in ipairs(redis.call('ZRANGE', license.queue, 0, -1)) do
    local waiter = read(license, holder)
    if waiter.offer then
      redis.call('ZADD', license.shares, 0, share_member('o:' .. waiter.offer, waiter.offer_until, offer_member(waiter)))
      occupy_shares(license, waiter.offer, waiter, waiter.offer_until, offer_member(waiter))
    end
  end
end

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

-- What an administrator does. Every function answers a word ('done' or why not) and then figures that belong to it;
-- where it is not 'done', nothing was changed. ARGV begin with who did it.

local function administrator_record(license, what, by, lease, extra)
  local fields = {'by', by, 'kind', lease.kind, 'user', lease.user or '', 'name', lease.name or '', 'document', lease.document or '',
    'lease', lease.id or ''}
  for _, word in ipairs(extra or {}) do fields[#fields + 1] = word end
  return record(license, what, fields)
end

-- The settings file's terms, as JSON. ARGV: who, terms. Shares are made anew, for other groups may count now.
local function configure(keys, args)
  local license, unknown = open(keys)
  license = license or unknown
  if redis.call('HGET', license.state, 'terms') == args[2] then return {'same'} end
  license.terms = cjson.decode(args[2])
  record(license, 'configured', {'by', args[1], 'terms', args[2]})
  set(license, {terms = args[2]})
  redis.call('DEL', license.shares)
  local stored = redis.call('HGETALL', license.leases)
  for index = 1, #stored, 2 do
    local lease = stored[index]:sub(1, 1) ~= '@' and cmsgpack.unpack(stored[index + 1])
    local ends = lease and redis.call('ZSCORE', license[lease.kind], stored[index])
    if ends then occupy_shares(license, lease.kind, lease, tonumber(ends), stored[index]) end
  end
  queue.rebuild(license)
  return {'done'}
end

-- ARGV: who, kind (named or document), user, name, document or ''
local function assign(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local by, kind, user, name, document = unpack(args)
  local claimant = new_claimant(user, name, '', document, {})
  queue.tend(license)
  local lease = leases.read(license, kind, field_of(claimant, kind))
  if lease and leases.serves(license, lease) then return {'has-one'} end
  if lease then return {'quarantined', lease.ends} end
  if kind == 'document' and pool.allocated(license, document) == 0 then return {'not-allocated'} end
  if pool.occupied(license, kind) >= limit_of(license, kind) then return {'full', limit_of(license, kind)} end
  if not pool.has_room(license, kind, claimant) then return {'full', pool.allocated(license, document)} end
  leases.expire(license, kind, field_of(claimant, kind))
  lease = {kind = kind, user = user, name = name, client = '', document = document ~= '' and document or nil,
    granted = license.now, by = 'administrator', field = field_of(claimant, kind)}
  lease.id = administrator_record(license, 'assigned', by, lease)
  leases.write(license, lease, nil)
  return {'done'}
end

-- ARGV: who, kind, user, document or ''. Returns {'done', time until it is in quarantine, or 0: gone at once}
local function remove(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local by, kind, user, document = unpack(args)
  local lease = leases.read(license, kind, leases.field(kind, user, '', document))
  if not lease then return {'has-none'} end
  if not leases.serves(license, lease) then return {'quarantined', lease.ends} end
  local used = not lease.pending and leases.last_use(license, lease) or nil
  local ends = used and used + license.terms[kind].quarantine or license.now
  if ends <= license.now then
    leases.finish(license, lease, 'removed', by, {'until', '0'})
    publish_lost(license, lease, 'removed')
    return {'done', 0}
  end
  administrator_record(license, 'removed', by, lease, {'until', ends})
  lease.removed = license.now
  leases.write(license, lease, used)
  publish_lost(license, lease, 'removed')
  return {'done', ends}
end

-- Takes a removal back while the quarantine lasts. ARGV: who, kind, user, document or ''
local function undo(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local by, kind, user, document = unpack(args)
  local lease = leases.read(license, kind, leases.field(kind, user, '', document))
  if not lease then return {'has-none'} end
  if leases.serves(license, lease) then return {'not-removed'} end
  administrator_record(license, 'undone', by, lease)
  lease.removed = nil
  lease.by = 'administrator'   -- one that was returned for want of use would else be returned again at once
  leases.write(license, lease, leases.last_use(license, lease))
  return {'done'}
end

local function set_one(license, what, by, name, value, extra)
  record(license, what, {'by', by, unpack(extra)})
  set(license, {[name] = value ~= '' and value or false})
  return {'done'}
end

-- ARGV: who, document, number of Document CALs that may be given out for it
local function allocate(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local by, document, cals = args[1], args[2], tonumber(args[3])
  local sum = cals
  for name, value in pairs(license.settings) do
    local other = name:match('^allocated:(.*)$')
    if other and other ~= document then sum = sum + tonumber(value) end
  end
  if sum > limit_of(license, 'document') then return {'too-many', sum, limit_of(license, 'document')} end
  return set_one(license, 'allocated', by, 'allocated:' .. document, cals == 0 and '' or args[3],
    {'document', document, 'cals', args[3]})
end

-- ARGV: who, kind, limit or '' (the file's again)
local function limit(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local by, kind, most = unpack(args)
  local bought = license.terms[kind].in_license
  if most ~= '' and tonumber(most) > bought then return {'too-many', bought} end
  return set_one(license, 'limited', by, 'limit:' .. kind, most, {'kind', kind, 'cals', most})
end

-- ARGV: who, kind, '1', '0' or '' (the file's again), document or '' (all)
local function dynamic(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local by, kind, on, document = unpack(args)
  local name = 'dynamic:' .. kind .. (document ~= '' and ':' .. document or '')
  return set_one(license, 'dynamic', by, name, on, {'kind', kind, 'document', document, 'on', on})
end

-- Ends a Session CAL as if its holder had signed out; with force at once. ARGV: who, user, client, force (1 or 0)
-- Returns {'done', time when it comes back, or 0: now}
local function finish(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local by, user, client, force = unpack(args)
  local lease = leases.read(license, 'session', leases.field('session', user, client))
  if not lease then return {'has-none'} end
  publish_lost(license, lease, 'ended')
  if force == '1' then
    leases.finish(license, lease, 'ended', by, {'forced', '1'})
    return {'done', 0}
  end
  sign_out(license, lease, 'ended', by)
  return {'done', lease.ends > license.now and lease.ends or 0}
end

-- Puts back what `export` gave, into a license without permanent state. ARGV: who, JSON of the settings, JSON of the leases
-- (each with its field and last use). Returns {'done', how many}, {'not-empty', how many} or {'unreadable'}
local function restore(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local there = redis.call('ZCARD', license.named) + redis.call('ZCARD', license.document) + redis.call('ZCARD', license.usage)
  if there > 0 then return {'not-empty', there} end
  local settings, saved = cjson.decode(args[2]), cjson.decode(args[3])
  for _, lease in ipairs(saved) do
    local strings = type(lease.id) == 'string' and type(lease.field) == 'string' and type(lease.user) == 'string'
    if not strings or type(lease.granted) ~= 'number' or not includes({'named', 'document', 'usage'}, lease.kind) then
      return {'unreadable'}
    end
  end
  record(license, 'restored', {'by', args[1], 'settings', args[2], 'leases', args[3]})
  set(license, settings)
  for _, lease in ipairs(saved) do
    local used = lease.last_used
    lease.last_used = nil
    leases.write(license, lease, used)
  end
  return {'done', #saved}
end

redis.register_function(VERSION .. 'restore', restore)
redis.register_function(VERSION .. 'configure', configure)
redis.register_function(VERSION .. 'assign', assign)
redis.register_function(VERSION .. 'remove', remove)
redis.register_function(VERSION .. 'undo', undo)
redis.register_function(VERSION .. 'allocate', allocate)
redis.register_function(VERSION .. 'limit', limit)
redis.register_function(VERSION .. 'dynamic', dynamic)
redis.register_function(VERSION .. 'end', finish)

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
  local reply = {tostring(license.now), cjson.encode(changed(license))}
  for _, kind in ipairs(KINDS) do
    local snapshot = pool.snapshot(license, kind)
    snapshot.in_license = license.terms[kind].in_license
    snapshot.offered = pool.share(license, OFFERS[kind])
    reply[#reply + 1] = cjson.encode(snapshot)
  end
  return reply
end

-- Everything that is out, a page at a time. ARGV: cursor, about how many. Returns {cursor, JSON of a lease …}
local function holders(keys, args)
  local license, unknown = open(keys)
  license = license or unknown
  local page = redis.call('HSCAN', license.leases, args[1], 'COUNT', args[2])
  local reply = {page[1]}
  for index = 1, #page[2], 2 do
    local field, text = page[2][index], page[2][index + 1]
    local lease = field:sub(1, 1) ~= '@' and leases.read(license, cmsgpack.unpack(text).kind, field, text)
    if lease then
      lease.last_used = leases.last_use(license, lease)
      if license.terms then lease.serves = leases.serves(license, lease) end
      reply[#reply + 1] = cjson.encode(lease)
    end
  end
  return reply
end

-- Who waits, in order. Returns {JSON of each …}
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

-- Permanent state. Returns {JSON of what administrators set, JSON of a lease with its field and last use …}
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
read_only('holders', holders)
read_only('queue', waiting)
read_only('export', export)
