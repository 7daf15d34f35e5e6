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
