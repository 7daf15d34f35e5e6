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
