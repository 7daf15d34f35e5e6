-- For tests: plays a whole history in one call. The shipped functions run unchanged, under a clock that the history sets.
-- ARGV: JSON of [[time, what, …], …]. Returns for each {reply, state, holders, queue} of the shipped functions.
-- "claim", "settle" and "touch" name leases by the number of the claim that got them; numbers continue over calls.
local got = {}

local function claim_again(keys, had, args)
  local held = had[tostring(args[6])]
  local belief = {'', '', '', ''}
  if held and leases.field(held.kind, args[1], args[2], args[3]) == held.field then
    belief = {held.kind, held.id, '0', tostring(math.max(0, test_time - held.confirmed))}
  end
  local reply = claim(keys, {args[1], 'CORP\\' .. args[1], args[2], args[3], args[4], args[5], belief[1], belief[2],
    belief[3], belief[4], args[7]})
  if reply[1] == 'granted' then
    local kind = reply[2] == 'unenforced' and 'session' or reply[2]
    had[args[5]] = {kind = kind, id = reply[3], user = args[1], client = args[2], document = args[3],
      groups = args[4], network = args[7], reference = args[5], confirmed = test_time, field = leases.field(kind, args[1], args[2], args[3])}
  end
  return reply
end

local OPERATIONS = {
  claim = claim_again,
  settle = function(keys, had, args)
    local lease = had[tostring(args[1])]
    if not lease then return 'nothing' end
    settle(keys, {lease.kind, lease.user, lease.client, lease.document, lease.id, lease.reference, args[2]})
    return 'done'
  end,
  touch = function(keys, had, args)
    local lease = had[tostring(args[1])]
    if not lease then return 'nothing' end
    local confirmed = math.max(0, test_time - lease.confirmed)
    local lost = touch(keys, {cjson.encode({{lease.kind, lease.id, args[2], confirmed, lease.user, 'CORP\\' .. lease.user, lease.client,
      lease.document, lease.groups, lease.network}})})
    if #lost == 0 then lease.confirmed = test_time end
    return lost[2] or 'kept'
  end,
  release = function(keys, _, args) return release(keys, args) end,
  tend = function(keys) return tend(keys, {'1000'}) end,
  assign = function(keys, _, args) return assign(keys, args) end,
  remove = function(keys, _, args) return remove(keys, args) end,
  undo = function(keys, _, args) return undo(keys, args) end,
  allocate = function(keys, _, args) return allocate(keys, args) end,
  limit = function(keys, _, args) return limit(keys, args) end,
  dynamic = function(keys, _, args) return dynamic(keys, args) end,
  finish = function(keys, _, args) return finish(keys, args) end,
  dismiss = function(keys, _, args) return dismiss(keys, args) end,
}

redis.register_function(VERSION .. 'history', function(keys, args)
  local license = keys[1]
  got[license] = got[license] or {}
  local reply = {}
  for index, operation in ipairs(cjson.decode(args[1])) do
    test_time = table.remove(operation, 1)
    local what = table.remove(operation, 1)
    reply[index] = {OPERATIONS[what](keys, got[license], operation), state(keys), holders(keys, {'0', '1000'}),
      waiting(keys)}
  end
  return reply
end)

redis.register_function(VERSION .. 'forget', function(keys)
  got[keys[1]], test_time = nil, 0
  known[keys[1]] = nil
  return redis.call('DEL', unpack(keys))
end)
