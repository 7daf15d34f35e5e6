-- A license as a function sees it: its keys, terms, settings and the time.
--
-- KEYS of every function, in this order; all of them, so that a Cluster that is moving the slot refuses the whole call
-- before it begins instead of failing in the middle:
--   state     hash: "terms" (JSON, from the settings file), "newest" (time of the last record), and what administrators
--             changed while running: "limit:<kind>", "dynamic:<kind>", "allocated:<document>", "dynamic:document:<document>"
--   leases    hash: lease field -> JSON of what was agreed
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
local FOREVER = 9999999999999   -- the year 2286; thirteen digits like every time of this century
local ENDED_KEPT = 7200 * 1000  -- how long an ended lease is remembered; longer than
local TRUSTED = 3600 * 1000     -- the time for which a gateway's word counts that a lease was confirmed to it

-- Terms as decoded last time: text and table, by state key. Comparing the text costs less than decoding it.
local decoded = {}

-- Asked for together because nearly every decision needs them; the rest is asked for where it is needed.
local COMMON = {'terms', 'newest', 'dynamic:named', 'dynamic:document', 'limit:named', 'limit:document', 'limit:session',
  'limit:usage'}

-- Answers nil for a license that no gateway has configured yet, and then what is known without.
local function open(keys)
  local license = {set = {}}
  for index, name in ipairs(KEYS) do license[name] = keys[index] end
  local values = redis.call('HMGET', license.state, unpack(COMMON))
  for index, name in ipairs(COMMON) do license.set[name] = values[index] end
  license.now = math.max(clock(), tonumber(license.set.newest or 0))
  local text = license.set.terms
  if not text then return nil, license end
  local known = decoded[license.state]
  if not known or known.text ~= text then
    known = {text = text, terms = cjson.decode(text)}
    decoded[license.state] = known
  end
  license.terms = known.terms
  return license
end

-- What an administrator set while running, or false.
local function setting(license, name)
  local value = license.set[name]
  if value == nil then
    value = redis.call('HGET', license.state, name)
    license.set[name] = value
  end
  return value
end

-- What is in force for a kind: the administrator's limit, else the file's, never more than was bought.
local function limit_of(license, kind)
  local terms = license.terms[kind]
  return math.min(tonumber(setting(license, 'limit:' .. kind) or terms.limit), terms.in_license)
end

-- Writes the record of what is decided; comes before every change of state. Answers its id, which for a new lease
-- becomes the lease's own.
local function record(license, what, fields)
  local oldest = license.now - license.terms.audit_keep
  redis.call('HSET', license.state, 'newest', license.now)
  return redis.call('XADD', license.audit, 'MINID', '~', math.max(oldest, 0), license.now .. '-*', 'what', what,
    unpack(fields))
end

-- Tells all gateways, in the same step, that a lease is not to be relied on any more.
local function tell(license, it, reason)
  redis.call('PUBLISH', license.terms.channel,
    cjson.encode({topic = 'lease-lost', subject = it.id, reason = reason}))
end
