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
