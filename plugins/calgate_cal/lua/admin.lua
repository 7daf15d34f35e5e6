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
