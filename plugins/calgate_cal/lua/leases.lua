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
local lease = {}

function lease.field(kind, user, client, document)
  return field_of({user = user, client = client, document = document, field = {}}, kind)
end

-- The sorted set that knows the last use.
local function uses(license, kind)
  return kind == 'session' and license.idle or license.used
end

local function unused_for(terms, it, used)
  return it.by == 'dynamic' and terms.return_after and used + terms.return_after or FOREVER
end

-- When a lease comes back by itself, if it is not used again.
function lease.ends(license, it, used)
  local terms = license.terms[it.kind]
  local ends
  if it.kind == 'session' then
    ends = math.max(it.granted + terms.minimum, it.left or used + terms.idle_timeout)
    ends = math.min(ends, it.granted + (terms.maximum or FOREVER))
  elseif it.kind == 'usage' then
    ends = it.granted + USAGE_KEPT
  elseif it.removed then
    ends = used and used + terms.quarantine or it.removed
  else
    ends = used and unused_for(terms, it, used) or FOREVER
    if ends < FOREVER then ends = math.max(ends, used + terms.quarantine) end
  end
  if it.pending then ends = math.min(ends, it.granted + license.terms.provisional) end
  return math.min(ends, FOREVER)
end

-- The lease of a field with `until` and `used`, or nil if there is none or its time is over.
function lease.read(license, kind, field, text)
  text = text or redis.call('HGET', license.leases, field)
  if not text then return nil end
  local ends = tonumber(redis.call('ZSCORE', license[kind], field) or 0)
  if ends <= license.now then return nil end
  local it = cmsgpack.unpack(text)
  it.field, it.ends = field, ends
  return it
end

function lease.last_use(license, it)
  return tonumber(redis.call('ZSCORE', uses(license, it.kind), it.field) or nil)
end

-- Whether it still serves its owner: not when removed, nor when unused for so long that it was returned.
function lease.serves(license, it)
  if it.removed then return false end
  if it.kind == 'usage' then return license.now < it.granted + HOUR end
  local terms = license.terms[it.kind]
  if it.by ~= 'dynamic' or not terms.return_after then return true end
  return license.now < unused_for(terms, it, lease.last_use(license, it) or license.now)
end

local function share_member(share, ends, member)
  return share .. '\0' .. string.format('%013.0f', ends) .. '\0' .. member
end

-- The shares of its pool that a lease, or an offer of one, takes up.
local function shares_of(kind, it)
  if kind == 'document' then return {'d:' .. it.document} end
  if kind ~= 'session' then return {} end
  local shares = {}
  for _, group in ipairs(it.groups or {}) do shares[#shares + 1] = 'g:' .. group end
  return shares
end

local function has_shares(license, kind)
  return kind == 'document' or (kind == 'session' and license.terms.session.shared)
end

local function occupy_shares(license, kind, it, ends, member)
  if not has_shares(license, kind) then return end
  for _, share in ipairs(shares_of(kind, it)) do
    redis.call('ZADD', license.shares, 0, share_member(share, ends, member))
  end
end

local function free_shares(license, kind, it, ends, member)
  if not has_shares(license, kind) then return end
  for _, share in ipairs(shares_of(kind, it)) do
    redis.call('ZREM', license.shares, share_member(share, ends, member))
  end
end

-- As it is stored: without what is known of it from elsewhere.
local function encode(it)
  local field, ends, last_used = it.field, it.ends, it.last_used
  it.field, it.ends, it.last_used = nil, nil, nil
  local text = cmsgpack.pack(it)
  it.field, it.ends, it.last_used = field, ends, last_used
  return text
end

-- Writes what changed about a lease and the time when it comes back; and the newest time, where that was left to it.
function lease.write(license, it, used, newest)
  local ends = lease.ends(license, it, used)
  if newest then
    redis.call('HSET', license.leases, it.field, encode(it), '@newest', newest)
  else
    redis.call('HSET', license.leases, it.field, encode(it))
  end
  if it.ends and it.ends ~= ends then free_shares(license, it.kind, it, it.ends, it.field) end
  redis.call('ZADD', license[it.kind], ends, it.field)
  if used then redis.call('ZADD', uses(license, it.kind), used, it.field) end
  occupy_shares(license, it.kind, it, ends, it.field)
  it.ends = ends
end

-- Notes a use, nothing else of the lease having changed.
function lease.note_use(license, it, used)
  local ends = lease.ends(license, it, used)
  redis.call('ZADD', uses(license, it.kind), used, it.field)
  if ends == it.ends then return end
  redis.call('ZADD', license[it.kind], ends, it.field)
  if has_shares(license, it.kind) then
    free_shares(license, it.kind, it, it.ends, it.field)
    occupy_shares(license, it.kind, it, ends, it.field)
  end
  it.ends = ends
end

-- Takes a lease out of the books; the record of it has been written.
local function forget(license, it)
  redis.call('HDEL', license.leases, it.field)
  redis.call('ZREM', license[it.kind], it.field)
  redis.call('ZREM', uses(license, it.kind), it.field)
  redis.call('ZADD', license.ended, license.now + ENDED_KEPT, it.id)
  free_shares(license, it.kind, it, it.ends, it.field)
end

-- Ends a lease for a reason: record first, then state.
function lease.finish(license, it, what, by, extra)
  local fields = {'kind', it.kind, 'user', it.user, 'name', it.name, 'client', it.client or '',
    'document', it.document or '', 'lease', it.id, 'ended', math.min(it.ends, license.now), 'by', by or ''}
  for _, word in ipairs(extra or {}) do fields[#fields + 1] = word end
  record(license, what, fields)
  forget(license, it)
end

-- A lease whose time is over although nobody has looked since.
function lease.bury(license, kind, field)
  local text = redis.call('HGET', license.leases, field)
  local ends = redis.call('ZSCORE', license[kind], field)
  if not text or not ends or tonumber(ends) > license.now then return end
  local it = cmsgpack.unpack(text)
  it.field, it.ends = field, tonumber(ends)
  local what = 'expired'
  if it.pending then what = 'taken-back' elseif it.left then what = 'released' end
  lease.finish(license, it, what, 'clock')
end

-- Ends what is due, a bounded number of each kind; how many are out does not depend on it.
function lease.sweep(license, most)
  for _, kind in ipairs(KINDS) do
    for _, field in ipairs(redis.call('ZRANGE', license[kind], '-inf', license.now, 'BYSCORE', 'LIMIT', 0, most)) do
      lease.bury(license, kind, field)
    end
  end
  for _, id in ipairs(redis.call('ZRANGE', license.ended, '-inf', license.now, 'BYSCORE', 'LIMIT', 0, most)) do
    redis.call('ZREM', license.ended, id)
  end
end
