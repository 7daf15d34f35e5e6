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
