-- Who was denied waits in order of coming. A CAL that comes free is offered to the first who can use it; while the offer
-- stands it is nobody else's. Who stops asking loses his place; who lets an offer lapse, too.
local PLACE_KEPT = 30 * 1000
local OFFER_STANDS = 60 * 1000
local MOST_WAITING = 1000
local queue = {}
-- In patterns a NUL is written %z.

-- Those who can use the same CALs wait in one class, so that one look at its first decides for all.
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

local function drop_offer(license, waiter)
  if not waiter.offer then return end
  redis.call('ZREM', license.shares, share_member('o:' .. waiter.offer, waiter.offer_until, offer_member(waiter)))
  free_shares(license, waiter.offer, waiter, waiter.offer_until, offer_member(waiter))
  waiter.offer, waiter.offer_until = nil, nil
end

local function record_waiter(license, what, waiter, extra)
  record(license, what, {'user', waiter.user, 'name', waiter.name, 'client', waiter.client, 'document', waiter.document,
    unpack(extra or {})})
end

-- Takes somebody out of the queue; `what` is recorded unless the record of what he got says it already.
function queue.leave(license, holder, what)
  if not license.terms.queue then return end
  local waiter = read(license, holder)
  if not waiter then return end
  if what then record_waiter(license, what, waiter) end
  drop_offer(license, waiter)
  redis.call('ZREM', license.classes, (class_member(waiter)))
  redis.call('ZREM', license.queue, holder)
  redis.call('ZREM', license.places, holder)
  redis.call('HDEL', license.waiting, holder)
end

-- Denied: joins the queue, or keeps the place he has. Who asks for what his offer does not serve keeps the offer.
function queue.join(license, claimant)
  local waiter = read(license, holder_of(claimant))
  if waiter and waiter.offer then return end
  if not waiter then
    if redis.call('ZCARD', license.queue) >= MOST_WAITING then return end
    local last = redis.call('ZRANGE', license.queue, -1, -1, 'WITHSCORES')[2]
    waiter = {user = claimant.user, name = claimant.name, client = claimant.client, document = claimant.document, groups = claimant.groups,
      seq = tonumber(last or 0) + 1, since = license.now}
    record_waiter(license, 'waits', waiter)
    redis.call('ZADD', license.queue, waiter.seq, holder_of(claimant))
  else
    redis.call('ZREM', license.classes, (class_member(waiter)))
    waiter.document, waiter.groups = claimant.document, claimant.groups
  end
  save(license, waiter)
  redis.call('ZADD', license.classes, 0, (class_member(waiter)))
  redis.call('ZADD', license.places, license.now + PLACE_KEPT, holder_of(claimant))
end

local function as_claimant(waiter)
  local claimant = new_claimant(waiter.user, waiter.name, waiter.client, waiter.document, waiter.groups or {})
  claimant.waiter = waiter
  return claimant
end

local function drop_the_gone(license)
  for _, holder in ipairs(redis.call('ZRANGE', license.places, '-inf', license.now, 'BYSCORE', 'LIMIT', 0, 100)) do
    local waiter = read(license, holder)
    queue.leave(license, holder, waiter and waiter.offer and 'offer-lapsed' or 'gave-up')
  end
end

-- All who hold an offer, the last comer first.
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

-- An offer that can no longer be kept (a limit was lowered): the last comer goes back to waiting.
local function revoke(license)
  for _, waiter in ipairs(offered(license)) do
    if not pool.has_room(license, waiter.offer, as_claimant(waiter)) then
      record_waiter(license, 'offer-revoked', waiter, {'kind', waiter.offer})
      drop_offer(license, waiter)
      save(license, waiter)
      redis.call('ZADD', license.classes, 0, (class_member(waiter)))
      redis.call('ZADD', license.places, license.now + PLACE_KEPT, holder_of(waiter))
    end
  end
end

-- The first of a class who can really use what the class could: nobody who has something by now.
local function first_of(license, class, first)
  local member = first
  while member do
    local waiter = read(license, member:match('%z%d+%z(.*)$'))
    local claimant = as_claimant(waiter)
    local choice = order.choose(license, claimant, order.held(license, claimant))
    if choice.kind then return waiter, choice end
    member = redis.call('ZRANGE', license.classes, '(' .. member, '(' .. class .. '\1', 'BYLEX', 'LIMIT', 0, 1)[1]
  end
  return nil
end

-- The first comer, over all classes, for whom there is a CAL, and which.
local function next_to_serve(license)
  local best, best_choice
  local member = redis.call('ZRANGE', license.classes, '-', '+', 'BYLEX', 'LIMIT', 0, 1)[1]
  while member do
    local class, holder = member:match('^(.*)%z%d+%z(.*)$')
    if order.choose(license, as_claimant(read(license, holder)), {}).kind then
      local waiter, choice = first_of(license, class, member)
      if waiter and (not best or waiter.seq < best.seq) then best, best_choice = waiter, choice end
    end
    member = redis.call('ZRANGE', license.classes, '(' .. class .. '\1', '+', 'BYLEX', 'LIMIT', 0, 1)[1]
  end
  return best, best_choice
end

local function offer(license, waiter, choice)
  if choice.victim then
    leases.finish(license, choice.victim, 'reclaimed', 'queue')
    publish_lost(license, choice.victim, 'reclaimed')
  end
  record_waiter(license, 'offered', waiter, {'kind', choice.kind})
  redis.call('ZREM', license.classes, (class_member(waiter)))
  waiter.offer, waiter.offer_until = choice.kind, license.now + OFFER_STANDS
  redis.call('ZADD', license.shares, 0, share_member('o:' .. waiter.offer, waiter.offer_until, offer_member(waiter)))
  occupy_shares(license, waiter.offer, waiter, waiter.offer_until, offer_member(waiter))
  save(license, waiter)
  redis.call('ZADD', license.places, waiter.offer_until, holder_of(waiter))
end

-- Brings the queue up to now: comes before every decision, so that nobody overtakes.
function queue.tend(license)
  if not license.terms.queue or redis.call('ZCARD', license.queue) == 0 then return end
  drop_the_gone(license)
  revoke(license)
  local waiter, choice = next_to_serve(license)
  while waiter do
    offer(license, waiter, choice)
    waiter, choice = next_to_serve(license)
  end
end

-- When one comes free for the n-th who waits, as far as the clocks of what is out tell.
local function estimate(license, place)
  local soonest = FOREVER
  for _, kind in ipairs(KINDS) do
    local ends = redis.call('ZRANGE', license[kind], '(' .. license.now, FOREVER - 1, 'BYSCORE', 'LIMIT', place - 1, 1,
      'WITHSCORES')[2]
    soonest = math.min(soonest, tonumber(ends or FOREVER))
  end
  return soonest < FOREVER and soonest or nil
end

-- {place, estimate, offer_until}; nil: he does not wait.
function queue.place(license, holder)
  local rank = redis.call('ZRANK', license.queue, holder)
  if not rank then return nil end
  local waiter = read(license, holder)
  return {place = rank + 1, estimate = estimate(license, rank + 1), offer_until = waiter.offer_until}
end

-- After a change of terms: the offers' shares anew; a queue that was switched off is forgotten.
function queue.rebuild(license)
  if not license.terms.queue then
    redis.call('DEL', license.queue, license.waiting, license.classes, license.places)
    return
  end
  for _, holder in ipairs(redis.call('ZRANGE', license.queue, 0, -1)) do
    local waiter = read(license, holder)
    if waiter.offer then
      redis.call('ZADD', license.shares, 0, share_member('o:' .. waiter.offer, waiter.offer_until, offer_member(waiter)))
      occupy_shares(license, waiter.offer, waiter, waiter.offer_until, offer_member(waiter))
    end
  end
end
