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
