#!lua name=calgate_cal_v3
local VERSION = 'calgate_cal_v3_'
local function clock() return tonumber(redis.call('GET', 'test:clock')) end
-- A license as a function sees it: its keys, terms, settings and the time.
--
-- KEYS of every function, in this order. Every call names all of them, so that a Cluster that is moving the slot refuses
-- the whole call at its start instead of failing in the middle:
--   state     hash: "terms" (JSON, from the settings file), and what administrators changed at run time: "limit:<kind>",
--             "dynamic:<kind>", "allocated:<document>", "dynamic:document:<document>"
--   leases    hash: lease field -> the lease, as MessagePack (a third of JSON's time); and
--             "@newest" (time of the last record), "@version" (a hash of everything ever set in "state"), which every
--             decision reads: one command less is a tenth of its time; and
--             "@visits|<user>" (documents whose Document CAL of this user has an open visit)
--   named, document, session, usage
--             sorted sets: lease field -> when the CAL comes back by itself (FOREVER: never). These are the pools: the
--             number of occupied CALs is counted from them at each decision and never stored
--   used      sorted set: lease field -> last use, of Named, Document and Usage CALs
--   idle      sorted set: lease field -> last use, of Session CALs: the least recently used first
--   shares    sorted set, all scores 0, ordered as text: "<share>\0<until>\0<member>"; one range is one share of a pool:
--             "d:" a document's CALs, "g:" a group's, "o:" CALs offered to waiting users, "b:" leases beyond the limit
--             in observe mode, "w:" the queue positions of one user, "a:" anonymous browsers' CALs, "a:<network>" those of
--             one network
--   ended     sorted set: id of an ended lease, or "denied|<network>" of anonymous browsers -> until when that is remembered
--   queue     sorted set: "<user>|<client>" -> sequence number, first come first served
--   waiting   hash: "<user>|<client>" -> JSON of the waiter
--   classes   sorted set, all scores 0: "<class>\0<sequence>\0<user>|<client>": waiters without an offer, by class
--   places    sorted set: "<user>|<client>" -> until when the position is kept
--   audit     stream: every decision and every change, written before the change itself
local KEYS = {
  'state', 'leases', 'named', 'document', 'session', 'usage', 'used', 'idle', 'shares', 'ended',
  'queue', 'waiting', 'classes', 'places', 'audit',
}
local KINDS = {'named', 'document', 'session', 'usage'}
-- Names that every decision needs: joining two strings takes as long as asking the server for a number.
local LIMIT = {named = 'limit:named', document = 'limit:document', session = 'limit:session', usage = 'limit:usage'}
local DYNAMIC = {named = 'dynamic:named', document = 'dynamic:document'}
local OFFERS = {named = 'o:named', document = 'o:document', session = 'o:session', usage = 'o:usage'}
local FOREVER = 9999999999999   -- the year 2286; thirteen digits like every time of this century
local ENDED_KEPT = 7200 * 1000  -- how long an ended lease is remembered; longer than TRUSTED
local TRUSTED = 3600 * 1000     -- how long a gateway is believed that the store confirmed a lease to it
-- After a failover the clock can be a little behind the newest record: until it has caught up, time stands still at that
-- record. A record further ahead was written under a wrong clock, and must not stop the clocks of all CALs.
local MOST_AHEAD = 60 * 1000

-- Values that stay the same from call to call, by state key: the key names, as an index of every license table, and terms and
-- settings as they were read for a version. Equal versions have equal settings, so this cannot be stale.
local known = {}

local function named_keys(keys)
  local names = {}
  for index, name in ipairs(KEYS) do names[name] = keys[index] end
  return {index = {__index = names}}
end

-- Returns the kinds that a claim has to look for: those that were bought, those that are still occupied, and in observe
-- mode Session CALs. There can be none of the others until the version changes, so a claim does not look for them.
local function kinds_of(keys, terms)
  local kinds = {}
  for _, kind in ipairs(KINDS) do
    local is_observed = kind == 'session' and not terms.enforce
    if terms[kind].in_license > 0 or is_observed or redis.call('ZCARD', keys[kind]) > 0 then kinds[#kinds + 1] = kind end
  end
  return kinds
end

local function read_settings(cached, version)
  local keys = cached.index.__index
  cached.version, cached.settings = version, {}
  local state = redis.call('HGETALL', keys.state)
  for index = 1, #state, 2 do cached.settings[state[index]] = state[index + 1] end
  cached.terms = cjson.decode(cached.settings.terms)
  cached.kinds = kinds_of(keys, cached.terms)
end

-- Decides which name a Document CAL of a claim has. A claim names `host|document` where its request named a host. A name
-- without a host means the document on any host; the administrator's own name for one host goes before it.
local function name_document(claimant, settings)
  local plain = claimant.document:match('|([^|]*)$')
  if not plain then return end
  local full = claimant.document
  local is_named = settings['allocated:' .. full] or settings['dynamic:document:' .. full]
  claimant.cal_document = is_named and full or plain
  claimant.other_document = is_named and plain or full
  claimant.field.document = nil
end

-- Returns the field of the claimant's lease of a kind, joined when it is first needed.
local function field_of(claimant, kind)
  local field = claimant.field[kind]
  if field then return field end
  if kind == 'named' then
    field = 'named|' .. claimant.user
  elseif kind == 'session' then
    field = 'session|' .. claimant.user .. '|' .. claimant.client
  elseif kind == 'document' then
    field = 'document|' .. claimant.user .. '|' .. (claimant.cal_document or claimant.document)
  else
    field = 'usage|' .. claimant.user .. '|' .. claimant.document
  end
  claimant.field[kind] = field
  return field
end

local function held_fields(claimant, kinds, index)
  index = index or 1
  if not kinds[index] then return end
  return field_of(claimant, kinds[index]), held_fields(claimant, kinds, index + 1)
end

local function now_after(newest)
  local now = clock()
  if newest > now and newest - now <= MOST_AHEAD then now = newest end
  return now
end

-- Returns the license; for one that no gateway has configured yet, nil and a table with keys and time only. With a
-- claimant, the same command fetches the texts of the leases that they may hold: `texts` of the license.
local function open(keys, claimant)
  local cached = known[keys[1]]
  if not cached then
    cached = named_keys(keys)
    known[keys[1]] = cached
  end
  local texts
  if claimant and cached.kinds then
    name_document(claimant, cached.settings)
    texts = redis.call('HMGET', keys[2], '@version', '@newest', held_fields(claimant, cached.kinds))
  else
    texts = redis.call('HMGET', keys[2], '@version', '@newest')
  end
  local newest = tonumber(texts[2] or 0)
  local now = now_after(newest)
  if not texts[1] then return nil, setmetatable({now = now, newest = newest}, cached.index) end
  local fetched = claimant and cached.version == texts[1] and texts or nil
  if cached.version ~= texts[1] then
    read_settings(cached, texts[1])
    if claimant then name_document(claimant, cached.settings) end
  end
  return setmetatable({now = now, newest = newest, texts = fetched, terms = cached.terms, settings = cached.settings,
    kinds = cached.kinds}, cached.index)
end

-- Changes settings: {name = value or false, …}. The new version is a hash of the old one and of what was set.
local function set(license, values)
  local changes = {redis.call('HGET', license.leases, '@version') or ''}
  for name, value in pairs(values) do changes[#changes + 1] = name .. '\0' .. (value or '') end
  table.sort(changes)
  for name, value in pairs(values) do
    if value then
      redis.call('HSET', license.state, name, value)
    else
      redis.call('HDEL', license.state, name)
    end
  end
  redis.call('HSET', license.leases, '@version', redis.sha1hex(table.concat(changes, '\1')))
end

-- Returns the limit in force for a kind: the administrator's, else the file's, never more than was bought.
local function limit_of(license, kind)
  local terms = license.terms[kind]
  return math.min(tonumber(license.settings[LIMIT[kind]] or terms.limit), terms.in_license)
end

local given = {}   -- given.reason: why an administrator makes the present change

local function append_record(license, call, what, fields)
  if given.reason then fields = {'reason', given.reason, unpack(fields)} end
  if license.newest > license.now then
    fields = {'at', license.now, unpack(fields)}
  else
    license.newest = license.now
  end
  return call('XADD', license.audit, license.newest .. '-*', 'what', what, unpack(fields))
end

-- Writes the record of a decision; comes before every change of state. Returns its id, which for a new lease becomes the
-- lease's own. With `later`, the caller's own write stores "@newest". A stream's ids only grow: while the newest record is
-- ahead of the clock, a record takes an id after it and has its own time in `at`.
local function record(license, what, fields, later)
  local id = append_record(license, redis.pcall, what, fields)
  if type(id) == 'table' then   -- refused: the stream may have a record that "@newest" does not know of
    local last = redis.call('XREVRANGE', license.audit, '+', '-', 'COUNT', 1)[1]
    license.newest = math.max(license.newest, last and tonumber(last[1]:match('^%d+')) or 0)
    id = append_record(license, redis.call, what, fields)
  end
  if not later then redis.call('HSET', license.leases, '@newest', license.newest) end
  return id
end

-- Drops records that are old enough, in whole blocks, as many as the server thinks right. Not with each record: looking
-- for old records takes as long as writing one.
local function drop_old_records(license)
  redis.call('XTRIM', license.audit, 'MINID', '~', math.max(license.now - license.terms.audit_keep, 0))
end

-- Publishes to all gateways, in the same step, that a lease must not be relied on any more.
local function publish_lost(license, lease, reason)
  redis.call('PUBLISH', license.terms.channel,
    cjson.encode({topic = 'lease-lost', subject = lease.id, reason = reason}))
end

-- Leases: their fields, their clocks, how they begin and end.
--
-- A lease is {id, kind, user, name, client, document, granted, by, groups …}. Its field in the hash says who holds it:
--   named|<user>   document|<user>|<document>   session|<user>|<client>   usage|<user>|<document>
-- and spent|<id> for a Usage CAL whose hour is over, until its 28 days are.
-- Further members:
--   pending   references of requests without a response yet; a lease with such a list, even an empty one, is provisional
--   refused   one of those requests was refused while others were open
--   left      time of the sign-out
--   removed   time at which an administrator removed it
--   told      clients whose next claim is denied with the reason, a take-over
--   names     names that the user had before a rename, the latest last
--   visits    open visits of a Named or Document CAL: {client, since, used}, the latest user first
--   visiting  the client of visits[1] while the lease's last use is also that visit's
--   beyond    granted in observe mode although a limit would have denied it
--   network   the network of an anonymous browser, where nobody signed in; no user's lease has one
local HOUR = 3600 * 1000
local USAGE_KEPT = 28 * 24 * HOUR
local MOST_VISITS = 20    -- of one lease; an older visit is recorded early
local MOST_NAMES = 5      -- former names of one user
local leases = {}

function leases.field(kind, user, client, document)
  return field_of({user = user, client = client, document = document, field = {}}, kind)
end

-- The sorted set that has the last use.
local function uses(license, kind)
  return kind == 'session' and license.idle or license.used
end

local function unused_for(terms, lease, used)
  return lease.by == 'dynamic' and terms.return_after and used + terms.return_after or FOREVER
end

-- Returns when a lease comes back by itself if it is not used again.
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

-- Returns the lease of a field with `field` and `ends`; nil if there is none or its time is over.
function leases.read(license, kind, field, text)
  text = text or redis.call('HGET', license.leases, field)
  if not text then return nil end
  local ends = tonumber(redis.call('ZSCORE', license[kind], field) or 0)
  if ends <= license.now then return nil end
  local lease = cmsgpack.unpack(text)
  lease.field, lease.ends = field, ends
  return lease
end

-- Returns the claimant's lease of a kind. A Document CAL can have the document's name with its host or without.
function leases.read_held(license, claimant, kind, id)
  local lease = leases.read(license, kind, field_of(claimant, kind))
  if kind ~= 'document' or not claimant.other_document or (lease and (not id or lease.id == id)) then return lease end
  return leases.read(license, kind, leases.field(kind, claimant.user, '', claimant.other_document)) or lease
end

function leases.last_use(license, lease)
  return tonumber(redis.call('ZSCORE', uses(license, lease.kind), lease.field) or nil)
end

-- Returns whether a lease still serves its holder: not when removed, nor when returned after having been unused.
function leases.serves(license, lease)
  if lease.removed then return false end
  if lease.kind == 'usage' then return license.now < lease.granted + HOUR end
  local terms = license.terms[lease.kind]
  if lease.by ~= 'dynamic' or not terms.return_after then return true end
  return license.now < unused_for(terms, lease, leases.last_use(license, lease) or license.now)
end

-- ------------------------------------------------------------ shares of a pool

local function share_member(share, ends, member)
  return share .. '\0' .. string.format('%013.0f', ends) .. '\0' .. member
end

local NO_SHARES = {}

-- Returns the shares of its pool that a lease, or an offer of one, occupies.
local function shares_of(license, kind, lease)
  if kind == 'document' then return {'d:' .. (lease.cal_document or lease.document)} end
  if kind ~= 'session' then return NO_SHARES end
  if lease.beyond and not license.terms.enforce then return {'b:session'} end
  if lease.network then return {'a:', 'a:' .. lease.network} end
  if not license.terms.session.shared then return NO_SHARES end
  local shares = {}
  for _, group in ipairs(lease.groups or {}) do shares[#shares + 1] = 'g:' .. group end
  return shares
end

local function occupy_shares(license, kind, lease, ends, member)
  for _, share in ipairs(shares_of(license, kind, lease)) do
    redis.call('ZADD', license.shares, 0, share_member(share, ends, member))
  end
end

local function free_shares(license, kind, lease, ends, member)
  for _, share in ipairs(shares_of(license, kind, lease)) do
    redis.call('ZREM', license.shares, share_member(share, ends, member))
  end
end

-- ------------------------------------------------------------ writing

-- Returns the stored form, without the members that are kept elsewhere.
local function encode(lease)
  local field, ends, last_used = lease.field, lease.ends, lease.last_used
  lease.field, lease.ends, lease.last_used = nil, nil, nil
  local text = cmsgpack.pack(lease)
  lease.field, lease.ends, lease.last_used = field, ends, last_used
  return text
end

-- Writes a changed lease and when it comes back; with `newest`, also the time of the newest record.
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

-- Notes a use of a lease of which nothing else changed.
function leases.note_use(license, lease, used)
  local ends = leases.ends(license, lease, used)
  redis.call('ZADD', uses(license, lease.kind), used, lease.field)
  if ends == lease.ends then return end
  redis.call('ZADD', license[lease.kind], ends, lease.field)
  free_shares(license, lease.kind, lease, lease.ends, lease.field)
  occupy_shares(license, lease.kind, lease, ends, lease.field)
  lease.ends = ends
end

-- Notes the user's present name; keeps the former one, by which an administrator may still look for them.
function leases.rename(lease, name)
  if name == '' or lease.name == name then return false end
  lease.names = lease.names or {}
  lease.names[#lease.names + 1] = lease.name
  if #lease.names > MOST_NAMES then table.remove(lease.names, 1) end
  lease.name = name
  return true
end

-- ------------------------------------------------------------ visits of Named and Document CALs

-- Keeps the list of a user's documents with open visits, so that a sign-out finds them.
local function index_visits(license, lease)
  if lease.kind ~= 'document' then return end
  local key = '@visits|' .. lease.user
  local text = redis.call('HGET', license.leases, key)
  local documents = text and cmsgpack.unpack(text) or {}
  local is_open = lease.visits and true or nil
  if documents[lease.document] == is_open then return end
  documents[lease.document] = is_open
  if next(documents) then
    redis.call('HSET', license.leases, key, cmsgpack.pack(documents))
  else
    redis.call('HDEL', license.leases, key)
  end
end

local function record_visit(license, lease, visit)
  record(license, 'visited', {'kind', lease.kind, 'lease', lease.id, 'user', lease.user, 'name', lease.name,
    'client', visit.client, 'document', lease.kind == 'document' and lease.document or '', 'since', visit.since,
    'used', visit.used})
end

local function update_current_visit(license, lease)
  if lease.visiting then lease.visits[1].used = leases.last_use(license, lease) or lease.visits[1].used end
end

-- Notes a use by a client, before it is written as the last use. A visit is over once it was unused for `idle_timeout`.
-- Returns whether the lease must be written.
function leases.note_visit(license, lease, client, used)
  if lease.kind ~= 'named' and lease.kind ~= 'document' then return false end
  local idle = license.terms.session.idle_timeout
  update_current_visit(license, lease)
  local current = lease.visiting and lease.visits[1]
  if current and current.client == client and used < current.used + idle then return false end
  local open, mine = {}, nil
  for _, visit in ipairs(lease.visits or {}) do
    if visit.client ~= client then
      open[#open + 1] = visit
    elseif used < visit.used + idle then
      mine = visit
    else
      record_visit(license, lease, visit)
    end
  end
  mine = mine or {client = client, since = used}
  mine.used = used
  table.insert(open, 1, mine)
  if #open > MOST_VISITS then record_visit(license, lease, table.remove(open)) end
  lease.visits, lease.visiting = open, client
  index_visits(license, lease)
  return true
end

-- Ends and records the open visits of a client, or of all. Returns whether the lease must be written.
function leases.end_visits(license, lease, client)
  if not lease.visits then return false end
  update_current_visit(license, lease)
  local open = {}
  for _, visit in ipairs(lease.visits) do
    if client and visit.client ~= client then
      open[#open + 1] = visit
    else
      record_visit(license, lease, visit)
    end
  end
  if #open == #lease.visits then return false end
  if not client or lease.visiting == client then lease.visiting = nil end
  lease.visits = #open > 0 and open or nil
  index_visits(license, lease)
  return true
end

-- ------------------------------------------------------------ ends

-- Deletes a lease whose end has been recorded.
local function forget(license, lease)
  redis.call('HDEL', license.leases, lease.field)
  redis.call('ZREM', license[lease.kind], lease.field)
  redis.call('ZREM', uses(license, lease.kind), lease.field)
  redis.call('ZADD', license.ended, license.now + ENDED_KEPT, lease.id)
  free_shares(license, lease.kind, lease, lease.ends, lease.field)
end

-- Ends a lease for a reason: record first, then state. A provisional lease was never used, so it has had no visit.
function leases.finish(license, lease, what, by, extra)
  if lease.pending then
    lease.visits, lease.visiting = nil, nil
    index_visits(license, lease)
  else
    leases.end_visits(license, lease)
  end
  local fields = {'kind', lease.kind, 'user', lease.user, 'name', lease.name, 'client', lease.client or '',
    'document', lease.document or '', 'lease', lease.id, 'ended', math.min(lease.ends, license.now), 'by', by or '',
    'used', leases.last_use(license, lease) or ''}
  for _, word in ipairs(extra or {}) do fields[#fields + 1] = word end
  record(license, what, fields)
  forget(license, lease)
end

-- Ends a lease whose time is over and that no call has ended yet.
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

-- Ends what is due, a bounded number of each kind; the number of occupied CALs does not depend on it.
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

-- Treats a last use that lies in the future, noted under a wrong clock, as a use now, in at most so many leases.
-- Returns how many were corrected.
function leases.correct_times(license, most, ahead)
  local corrected = 0
  for _, set in ipairs({license.idle, license.used}) do
    for _, field in ipairs(redis.call('ZRANGE', set, '(' .. license.now + ahead, '+inf', 'BYSCORE', 'LIMIT', 0, most)) do
      local text = redis.call('HGET', license.leases, field)
      if not text then
        redis.call('ZREM', set, field)
      else
        local lease = cmsgpack.unpack(text)
        lease.field, lease.ends = field, tonumber(redis.call('ZSCORE', license[lease.kind], field))
        for _, name in ipairs({'granted', 'left', 'removed'}) do
          if lease[name] then lease[name] = math.min(lease[name], license.now) end
        end
        for _, visit in ipairs(lease.visits or {}) do
          visit.since, visit.used = math.min(visit.since, license.now), math.min(visit.used, license.now)
        end
        leases.write(license, lease, license.now)
        corrected = corrected + 1
      end
    end
  end
  return corrected
end

-- Pools: how many CALs are occupied, and whether one claimant could have one more. Everything is counted when needed.
local pool = {}

-- Returns how many CALs of a share are occupied or offered.
function pool.share(license, share)
  local after = share .. '\0' .. string.format('%013.0f', license.now) .. '\1'
  return redis.call('ZLEXCOUNT', license.shares, '(' .. after, '(' .. share .. '\1')
end

-- Returns how many leases in observe mode are beyond the limit: they decide nothing.
function pool.beyond(license, kind)
  if license.terms.enforce or kind ~= 'session' then return 0 end
  return pool.share(license, 'b:session')
end

function pool.occupied(license, kind)
  return redis.call('ZCOUNT', license[kind], '(' .. license.now, '+inf') - pool.beyond(license, kind)
end

local function includes(list, wanted)
  for _, value in ipairs(list or {}) do
    if value == wanted then return true end
  end
  return false
end

-- Returns whether a new CAL of this kind can be assigned to the claimant without an administrator.
function pool.is_dynamic(license, kind, claimant)
  local terms = license.terms[kind]
  local set = kind == 'document' and
    license.settings['dynamic:document:' .. (claimant.cal_document or claimant.document)] or license.settings[DYNAMIC[kind]]
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

-- Returns how many CALs of a share are occupied or offered without those that would be given up first: a lease that is
-- taken away, the claimant's own offer.
local function share_less(license, kind, share, given_up)
  local count = pool.share(license, share)
  for _, lease in pairs(given_up) do
    if includes(shares_of(license, kind, lease), share) then count = count - 1 end
  end
  return count
end

-- Returns how many CALs are kept for groups that the claimant is not in.
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
    local is_member = includes(claimant.groups, cap.group)
    if is_member and share_less(license, 'session', 'g:' .. cap.group, given_up) >= cap.cals then return true end
  end
  return false
end

local NONE_ANONYMOUS = {max = 0, per_address = 0}

-- Returns a code why one more anonymous browser of this network can have no CAL; nil where it can have one.
local function anonymous_bound(license, network)
  local terms = license.terms.anonymous or NONE_ANONYMOUS
  if pool.share(license, 'a:') >= terms.max then return 'anonymous-full' end
  if pool.share(license, 'a:' .. network) >= terms.per_address then return 'address-full' end
  return nil
end

-- Returns how many CALs of a kind can be occupied, overdraft included; anonymous browsers get none of the overdraft.
local function most_of(license, kind, network)
  return limit_of(license, kind) + (not network and license.terms[kind].overdraft or 0)
end

-- Returns whether the claimant can have one more CAL of this kind, a code why not, the number occupied with it and the
-- limit (a number above it is overdraft). `without` is a lease that would be taken away first.
function pool.has_room(license, kind, claimant, without)
  local most = most_of(license, kind, claimant.network)
  local out = pool.occupied(license, kind) - (without and 1 or 0)
  if out >= most then return false, 'full' end
  local bound = claimant.network and anonymous_bound(license, claimant.network)
  if bound then return false, bound end
  local mine = claimant.waiter and claimant.waiter.offer == kind and claimant.waiter or nil
  local offered = license.terms.queue and pool.share(license, OFFERS[kind]) - (mine and 1 or 0) or 0
  local given_up = {without = without, mine = mine}
  if kind == 'document' then
    local document = claimant.cal_document or claimant.document
    if share_less(license, kind, 'd:' .. document, given_up) >= pool.allocated(license, document) then
      return false, 'full'
    end
  elseif kind == 'session' and license.terms.session.shared then
    if is_capped(license, claimant, given_up) then return false, 'capped' end
    local kept = kept_for_others(license, claimant, given_up)
    if out + offered < most and out + offered + kept >= most then return false, 'reserved' end
  end
  if out + offered >= most then return false, 'promised' end
  return true, '', out + 1, limit_of(license, kind)
end

-- Returns the Session CAL to take away so that the claimant can have one: idle long enough, past its minimum, the least
-- recently used first. Looks at a hundred at most; without reserves and caps the first one fits.
function pool.reclaimable(license, claimant)
  local terms = license.terms.session
  if not terms.reclaimable_after or limit_of(license, 'session') == 0 then return nil end
  local idle = redis.call('ZRANGE', license.idle, '-inf', license.now - terms.reclaimable_after, 'BYSCORE',
    'LIMIT', 0, 100)
  for _, field in ipairs(idle) do
    local lease = leases.read(license, 'session', field)
    local is_old = lease and lease.granted + terms.minimum <= license.now
    local counts = lease and (license.terms.enforce or not lease.beyond)
    if is_old and counts and pool.has_room(license, 'session', claimant, lease) then return lease end
  end
  return nil
end

-- Returns when the least recently used Session CAL can be reclaimed; passes over leases whose time is over.
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

-- Returns how many CALs must come back before one is free for a new claim, if more are occupied than there can be.
function pool.excess(license, kind)
  return math.max(0, pool.occupied(license, kind) - most_of(license, kind))
end

-- Returns when the next CAL of a kind can come free by itself, or be reclaimed; nil: not by itself. CALs beyond the limit
-- have to come back first, and with a limit of 0 none comes free.
function pool.free_at(license, kind)
  if most_of(license, kind) == 0 then return nil end
  local excess = pool.excess(license, kind)
  local first = redis.call('ZRANGE', license[kind], '(' .. license.now, FOREVER - 1, 'BYSCORE', 'LIMIT', excess, 1,
    'WITHSCORES')[2]
  local free = tonumber(first or FOREVER)
  if kind == 'session' and excess == 0 then free = math.min(free, ripe_at(license)) end
  return free < FOREVER and free or nil
end

-- Returns how full one pool is: {kind, limit, occupied, free_at, note}.
function pool.snapshot(license, kind, note)
  return {kind = kind, limit = limit_of(license, kind), occupied = pool.occupied(license, kind),
    free_at = pool.free_at(license, kind), note = note or ''}
end

-- The order of consumption: which CAL serves one claim. Reads only.
local order = {}

-- Returns somebody who claims a CAL; `field` is filled by field_of.
local function new_claimant(user, name, client, document, groups)
  return {user = user, name = name, client = client, document = document, groups = groups, field = {}}
end

local function holder_of(claimant)
  return claimant.user .. '|' .. claimant.client
end

-- Returns what the claimant holds, by kind. `texts` are their leases as `open` fetched them, after two other values.
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
      if not held[kind] then claimant.over = kind end   -- its time is over, and no call has ended it yet
    end
  end
  if claimant.other_document and not held.document then held.document = leases.read_held(license, claimant, 'document') end
  return held
end

-- Returns what happens because another machine uses a Named CAL; nil: nothing.
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
      why[kind] = 'quarantined'   -- it is still occupied, and no user has two
      return nil
    end
    if kind == 'document' and pool.allocated(license, claimant.cal_document or claimant.document) == 0 then
      why[kind] = 'not-allocated'
      return nil
    end
    if not pool.is_dynamic(license, kind, claimant) then
      why[kind] = 'not-assigned'
      return nil
    end
  end
  local room, code, out, limit = pool.has_room(license, kind, claimant)
  if room then return {kind = kind, out = out, limit = limit} end
  why[kind] = code
  return nil
end

local function reclaim(license, claimant)
  local victim = pool.reclaimable(license, claimant)
  return victim and {kind = 'session', victim = victim}
end

-- The vendor's order, steps 1 to 6. An idle holder loses a CAL only to a claimant who would be denied.
local STEPS = {
  {use_held, 'named'}, {use_held, 'document'}, {take_new, 'named'}, {take_new, 'document'},
  {use_held, 'session'}, {take_new, 'session'}, {use_held, 'usage'}, {take_new, 'usage'}, {reclaim, 'session'},
}

-- An anonymous browser has Session CALs only, and never one that a user left idle.
local ANONYMOUS_STEPS = {{use_held, 'session'}, {take_new, 'session'}}

-- Returns the steps for the kinds that there are: worked out once, and kept with the kinds.
local function steps_for(kinds)
  if not kinds.steps then
    kinds.steps = {}
    for _, step in ipairs(STEPS) do
      if includes(kinds, step[2]) then table.insert(kinds.steps, step) end
    end
  end
  return kinds.steps
end

-- Returns {lease, other} for a CAL that the claimant holds; {kind, out, limit, victim} for a new one, with which so many
-- are occupied; {why} with a code for each kind where there is none.
function order.choose(license, claimant, held)
  local why = {}
  for _, step in ipairs(claimant.network and ANONYMOUS_STEPS or steps_for(license.kinds)) do
    local choice = step[1](license, claimant, held, step[2], why)
    if choice then return choice end
  end
  return {why = why}
end

-- The queue: denied users wait, first come first served. A CAL that comes free is offered to the first waiter who can use
-- it, and is kept for them while the offer stands. A waiter who stops polling loses the position, and so does one who
-- lets an offer lapse. The record `waits` begins a wait; `granted`, `let-in`, `gave-up` or `kept-away` ends it.
local PLACE_KEPT = 30 * 1000
local OFFER_STANDS = 60 * 1000
local MOST_WAITING = 1000
local MOST_OF_ONE_USER = 3    -- positions of one user, on several machines or browsers
local MOST_ASKED = 20         -- documents of one waiter for which no further denial is recorded
local queue = {}
-- In patterns a NUL is written %z.

-- Returns a waiter's member of the sorted set, and their class: waiters who can use the same CALs are in one class, so
-- that one look at its first decides for all.
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

local function occupy_offer(license, waiter)
  redis.call('ZADD', license.shares, 0, share_member('o:' .. waiter.offer, waiter.offer_until, offer_member(waiter)))
  occupy_shares(license, waiter.offer, waiter, waiter.offer_until, offer_member(waiter))
end

local function drop_offer(license, waiter)
  if not waiter.offer then return end
  redis.call('ZREM', license.shares, share_member('o:' .. waiter.offer, waiter.offer_until, offer_member(waiter)))
  free_shares(license, waiter.offer, waiter, waiter.offer_until, offer_member(waiter))
  waiter.offer, waiter.offer_until = nil, nil
end

local function record_waiter(license, what, waiter, extra)
  record(license, what, {'user', waiter.user, 'name', waiter.name, 'client', waiter.client, 'document', waiter.document,
    'reference', waiter.reference or '', unpack(extra or {})})
end

local function user_share(user)
  return 'w:' .. user
end

-- Returns how many positions a user has.
local function positions_of(license, user)
  local count = 0
  local share = user_share(user)
  for _, member in ipairs(redis.call('ZRANGE', license.shares, '[' .. share .. '\0', '(' .. share .. '\1', 'BYLEX')) do
    if redis.call('HEXISTS', license.waiting, member:match('%z%d+%z(.*)$')) == 1 then
      count = count + 1
    else
      redis.call('ZREM', license.shares, member)   -- a gateway of an older version took the waiter out
    end
  end
  return count
end

-- Takes a waiter out of the queue. `what` is recorded unless the record of their CAL says so already.
function queue.leave(license, holder, what, extra)
  if not license.terms.queue then return end
  local waiter = read(license, holder)
  if not waiter then return end
  if what then record_waiter(license, what, waiter, {'waited', license.now - waiter.since, unpack(extra or {})}) end
  drop_offer(license, waiter)
  redis.call('ZREM', license.classes, (class_member(waiter)))
  redis.call('ZREM', license.shares, share_member(user_share(waiter.user), FOREVER, holder))
  redis.call('ZREM', license.queue, holder)
  redis.call('ZREM', license.places, holder)
  redis.call('HDEL', license.waiting, holder)
end

-- Returns whether a denied claim is a waiting page's poll, whose denial has been recorded.
function queue.polls(waiter, document)
  return waiter and includes(waiter.asked or {waiter.document}, document)
end

local function note_poll(waiter, claimant)
  waiter.reference = claimant.reference
  waiter.asked = waiter.asked or {waiter.document}
  if includes(waiter.asked, claimant.document) then return end
  waiter.asked[#waiter.asked + 1] = claimant.document
  if #waiter.asked > MOST_ASKED then table.remove(waiter.asked, 1) end
end

-- Adds a denied claimant to the queue, or keeps their position. Claiming a document that an offer cannot serve does not
-- forfeit the offer. A full queue, and a user with enough positions, take no further one.
function queue.join(license, claimant)
  local waiter = read(license, holder_of(claimant))
  if waiter and waiter.offer then
    note_poll(waiter, claimant)
    save(license, waiter)
    return
  end
  if not waiter then
    if redis.call('ZCARD', license.queue) >= MOST_WAITING then return end
    if positions_of(license, claimant.user) >= MOST_OF_ONE_USER then return end
    local last = redis.call('ZRANGE', license.queue, -1, -1, 'WITHSCORES')[2]
    waiter = {user = claimant.user, name = claimant.name, client = claimant.client, document = claimant.document,
      groups = claimant.groups, seq = tonumber(last or 0) + 1, since = license.now, reference = claimant.reference}
    record_waiter(license, 'waits', waiter)
    redis.call('ZADD', license.queue, waiter.seq, holder_of(claimant))
    redis.call('ZADD', license.shares, 0, share_member(user_share(waiter.user), FOREVER, holder_of(claimant)))
  else
    redis.call('ZREM', license.classes, (class_member(waiter)))
    waiter.document, waiter.groups = claimant.document, claimant.groups
  end
  note_poll(waiter, claimant)
  save(license, waiter)
  redis.call('ZADD', license.classes, 0, (class_member(waiter)))
  redis.call('ZADD', license.places, license.now + PLACE_KEPT, holder_of(claimant))
end

local function as_claimant(license, waiter)
  local claimant = new_claimant(waiter.user, waiter.name, waiter.client, waiter.document, waiter.groups or {})
  name_document(claimant, license.settings)
  claimant.waiter = waiter
  return claimant
end

local function drop_the_gone(license)
  for _, holder in ipairs(redis.call('ZRANGE', license.places, '-inf', license.now, 'BYSCORE', 'LIMIT', 0, 100)) do
    local waiter = read(license, holder)
    queue.leave(license, holder, waiter and waiter.offer and 'kept-away' or 'gave-up')
  end
end

-- Returns all waiters with an offer, the last to come first.
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

-- Takes back offers that can no longer be kept because a limit was lowered: the last to come goes back to waiting.
local function revoke(license)
  for _, waiter in ipairs(offered(license)) do
    if not pool.has_room(license, waiter.offer, as_claimant(license, waiter)) then
      record_waiter(license, 'offer-revoked', waiter, {'kind', waiter.offer})
      drop_offer(license, waiter)
      save(license, waiter)
      redis.call('ZADD', license.classes, 0, (class_member(waiter)))
      redis.call('ZADD', license.places, license.now + PLACE_KEPT, holder_of(waiter))
    end
  end
end

-- Returns the first of a class who can really use what the class could: not one who holds something by now.
local function first_of(license, class, first)
  local member = first
  while member do
    local waiter = read(license, member:match('%z%d+%z(.*)$'))
    local claimant = as_claimant(license, waiter)
    local choice = order.choose(license, claimant, order.held(license, claimant))
    if choice.kind then return waiter, choice, claimant end
    member = redis.call('ZRANGE', license.classes, '(' .. member, '(' .. class .. '\1', 'BYLEX', 'LIMIT', 0, 1)[1]
  end
  return nil
end

-- Returns the first to come, over all classes, for whom there is a CAL, and which.
local function next_to_serve(license)
  local best, best_choice, best_claimant
  local member = redis.call('ZRANGE', license.classes, '-', '+', 'BYLEX', 'LIMIT', 0, 1)[1]
  while member do
    local class, holder = member:match('^(.*)%z%d+%z(.*)$')
    if order.choose(license, as_claimant(license, read(license, holder)), {}).kind then
      local waiter, choice, claimant = first_of(license, class, member)
      if waiter and (not best or waiter.seq < best.seq) then
        best, best_choice, best_claimant = waiter, choice, claimant
      end
    end
    member = redis.call('ZRANGE', license.classes, '(' .. class .. '\1', '+', 'BYLEX', 'LIMIT', 0, 1)[1]
  end
  return best, best_choice, best_claimant
end

local function offer(license, waiter, choice, claimant)
  if choice.victim then
    leases.finish(license, choice.victim, 'reclaimed', 'queue')
    publish_lost(license, choice.victim, 'reclaimed')
  end
  record_waiter(license, 'offered', waiter, {'kind', choice.kind, 'waited', license.now - waiter.since})
  redis.call('ZREM', license.classes, (class_member(waiter)))
  waiter.offer, waiter.offer_until = choice.kind, license.now + OFFER_STANDS
  waiter.cal_document = claimant.cal_document
  occupy_offer(license, waiter)
  save(license, waiter)
  redis.call('ZADD', license.places, waiter.offer_until, holder_of(waiter))
end

-- Brings the queue up to now; comes before every decision, so that no newcomer overtakes.
function queue.tend(license)
  if not license.terms.queue or redis.call('ZCARD', license.queue) == 0 then return end
  drop_the_gone(license)
  revoke(license)
  local waiter, choice, claimant = next_to_serve(license)
  while waiter do
    offer(license, waiter, choice, claimant)
    waiter, choice, claimant = next_to_serve(license)
  end
end

-- Returns when a CAL comes free for the n-th waiter, as far as the clocks of the occupied CALs tell; nil: unknown.
local function estimate(license, position)
  local soonest = FOREVER
  for _, kind in ipairs(KINDS) do
    local index = position - 1 + pool.excess(license, kind)
    local ends = redis.call('ZRANGE', license[kind], '(' .. license.now, FOREVER - 1, 'BYSCORE', 'LIMIT', index, 1,
      'WITHSCORES')[2]
    soonest = math.min(soonest, tonumber(ends or FOREVER))
  end
  return soonest < FOREVER and soonest or nil
end

-- Returns {place, estimate, offer_until}; nil for somebody who does not wait.
function queue.place(license, holder)
  local rank = redis.call('ZRANK', license.queue, holder)
  if not rank then return nil end
  local waiter = read(license, holder)
  return {place = rank + 1, estimate = estimate(license, rank + 1), offer_until = waiter.offer_until}
end

-- After a change of terms: enters the waiters' shares again; empties a queue that was switched off.
function queue.rebuild(license)
  for _, holder in ipairs(redis.call('ZRANGE', license.queue, 0, -1)) do
    local waiter = read(license, holder)
    if not license.terms.queue then
      record_waiter(license, 'gave-up', waiter, {'waited', license.now - waiter.since})
    else
      redis.call('ZADD', license.shares, 0, share_member(user_share(waiter.user), FOREVER, holder))
      if waiter.offer then occupy_offer(license, waiter) end
    end
  end
  if not license.terms.queue then
    redis.call('DEL', license.queue, license.waiting, license.classes, license.places)
  end
end

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

-- What administrators do. Every function returns a code ('done' or why not) and then numbers that belong to it; unless the
-- code is 'done', nothing was changed. ARGV begin with the administrator who did it.

local function administrator_record(license, what, by, lease, extra)
  local fields = {'by', by, 'kind', lease.kind, 'user', lease.user or '', 'name', lease.name or '',
    'document', lease.document or '', 'lease', lease.id or ''}
  for _, word in ipairs(extra or {}) do fields[#fields + 1] = word end
  return record(license, what, fields)
end

-- Enters the shares of all leases again, after new terms by which other groups may count.
local function rebuild_shares(license)
  redis.call('DEL', license.shares)
  local stored = redis.call('HGETALL', license.leases)
  for index = 1, #stored, 2 do
    local lease = stored[index]:sub(1, 1) ~= '@' and cmsgpack.unpack(stored[index + 1])
    local ends = lease and redis.call('ZSCORE', license[lease.kind], stored[index])
    if ends then occupy_shares(license, lease.kind, lease, tonumber(ends), stored[index]) end
  end
  queue.rebuild(license)
end

-- Stores the settings file's terms. ARGV: by, terms as JSON. Returns {'done'} or {'same'}
local function configure(keys, args)
  local license, unknown = open(keys)
  license = license or unknown
  if redis.call('HGET', license.state, 'terms') == args[2] then return {'same'} end
  license.terms = cjson.decode(args[2])
  record(license, 'configured', {'by', args[1], 'terms', args[2]})
  set(license, {terms = args[2]})
  rebuild_shares(license)
  return {'done'}
end

-- Assigns a Named or Document CAL. The user's Session CALs are signed out where a Named CAL now serves instead.
-- ARGV: by, kind, user, name, document or ''
-- Returns {'done'}, {'has-one'}, {'quarantined', until}, {'not-allocated'} or {'full', limit}
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
  if kind == 'named' then sign_out_sessions(license, user, 'named') end
  return {'done'}
end

-- Removes a Named or Document CAL. ARGV: by, kind, user, document or ''
-- Returns {'done', end of the quarantine, or 0: free now}, {'has-none'} or {'quarantined', until}
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
  leases.end_visits(license, lease)
  administrator_record(license, 'removed', by, lease, {'until', ends, 'used', used})
  lease.removed = license.now
  leases.write(license, lease, used)
  publish_lost(license, lease, 'removed')
  return {'done', ends}
end

-- Takes a removal back while the quarantine lasts. ARGV: by, kind, user, document or ''
-- Returns {'done'}, {'has-none'} or {'not-removed'}
local function undo(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local by, kind, user, document = unpack(args)
  local lease = leases.read(license, kind, leases.field(kind, user, '', document))
  if not lease then return {'has-none'} end
  if leases.serves(license, lease) then return {'not-removed'} end
  administrator_record(license, 'undone', by, lease)
  lease.removed = nil
  lease.by = 'administrator'   -- a CAL that was returned because it was unused would else be returned again at once
  leases.write(license, lease, leases.last_use(license, lease))
  if kind == 'named' then sign_out_sessions(license, user, 'named') end
  return {'done'}
end

local function set_one(license, what, by, name, value, extra)
  record(license, what, {'by', by, unpack(extra)})
  set(license, {[name] = value ~= '' and value or false})
  return {'done'}
end

-- Sets how many Document CALs can be given out for a document. ARGV: by, document, number
-- Returns {'done'} or {'too-many', sum over all documents, limit}
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

-- Sets the limit of a kind. ARGV: by, kind, limit or '' (the file's again). Returns {'done'} or {'too-many', number bought}
local function limit(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local by, kind, most = unpack(args)
  local bought = license.terms[kind].in_license
  if most ~= '' and tonumber(most) > bought then return {'too-many', bought} end
  return set_one(license, 'limited', by, 'limit:' .. kind, most, {'kind', kind, 'cals', most})
end

-- Switches dynamic assignment. ARGV: by, kind, '1', '0' or '' (the file's again), document or '' (all). Returns {'done'}
local function dynamic(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local by, kind, on, document = unpack(args)
  local name = 'dynamic:' .. kind .. (document ~= '' and ':' .. document or '')
  return set_one(license, 'dynamic', by, name, on, {'kind', kind, 'document', document, 'on', on})
end

-- Ends a Session CAL as if its holder had signed out; with force at once. ARGV: by, user, client, force (1 or 0)
-- Returns {'done', when it comes back, or 0: now} or {'has-none'}
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

-- Puts back what `export` returned, into a license without permanent state.
-- ARGV: by, JSON of the settings, JSON of the leases (each with its field and last use)
-- Returns {'done', how many}, {'not-empty', how many} or {'unreadable'}
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

-- Copies a record, with the present as its time if it is of the future. The id of the record of a grant is also the
-- lease's own, so a record with a new id says which it had.
local function copy_record(license, id, words)
  if tonumber(id:match('^%d+')) > license.now then
    local has_lease = false
    for index = 1, #words, 2 do has_lease = has_lease or words[index] == 'lease' end
    if not has_lease then
      words[#words + 1] = 'lease'
      words[#words + 1] = id
    end
    id = license.now .. '-*'
  end
  redis.call('XADD', license.audit, id, unpack(words))
end

-- Writes the stream of records again, because the ids of a stream can only grow. A million records take some seconds.
-- Returns how many records were of the future.
local function rewrite_records(license)
  local old, start, moved = license.audit .. ':old', '-', 0
  redis.call('RENAME', license.audit, old)
  repeat
    local page = redis.call('XRANGE', old, start, '+', 'COUNT', 1000)
    for _, entry in ipairs(page) do
      if tonumber(entry[1]:match('^%d+')) > license.now then moved = moved + 1 end
      copy_record(license, entry[1], entry[2])
      start = '(' .. entry[1]
    end
  until #page < 1000
  redis.call('DEL', old)
  return moved
end

-- Takes the server's present clock for right, after a time under a wrong one: leases used in the future count as used
-- now, and records of the future move to the present, so that the stream's ids follow the clock again.
-- ARGV: by. Returns {'done', leases corrected, records moved} or {'not-ahead'}
local function set_clock(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  license.now = clock()
  local ahead = license.newest - license.now
  if ahead <= 0 then return {'not-ahead'} end
  local moved = rewrite_records(license)
  license.newest = license.now
  local corrected = leases.correct_times(license, -1, 0)
  record(license, 'clock-set', {'by', args[1], 'ahead', ahead, 'cals', corrected, 'records', moved})
  return {'done', corrected, moved}
end

-- Takes a waiter out of the queue. A page that is still open joins again, at the end. ARGV: by, user, client
-- Returns {'done'} or {'has-none'}
local function dismiss(keys, args)
  local license = open(keys)
  if not license then return {'unconfigured'} end
  local by, user, client = unpack(args)
  local holder = user .. '|' .. client
  if redis.call('HEXISTS', license.waiting, holder) == 0 then return {'has-none'} end
  queue.leave(license, holder, 'gave-up', {'by', by})
  return {'done'}
end

-- Registers a change. Its records have the administrator's reason, if there is one.
local function register_change(name, carry_out)
  redis.register_function(VERSION .. name, function(keys, args)
    local by, reason = args[1]:match('^([^\n]*)\n(.*)$')
    if by then args[1] = by end
    given.reason = reason
    local has_ended, reply = pcall(carry_out, keys, args)
    given.reason = nil   -- also after an error: the next call is somebody else's
    if not has_ended then error(reply, 0) end
    return reply
  end)
end

register_change('restore', restore)
register_change('configure', configure)
register_change('assign', assign)
register_change('remove', remove)
register_change('undo', undo)
register_change('allocate', allocate)
register_change('limit', limit)
register_change('dynamic', dynamic)
register_change('end', finish)
register_change('clock', set_clock)
register_change('dismiss', dismiss)

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
