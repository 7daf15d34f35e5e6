#!lua name=calgate_guard_v2
-- Failed NTLM sign-ins. A count is a string that ends by itself: after its window, or, once it has reached its limit, after
-- the wait. Beside each stands a sorted set of the tries that are under way, by when they began, so that a hundred at once
-- are not all let through; a browser's six connections wait for each other instead, for milliseconds.
-- A success ends the counts of its account, as it does those of a domain controller.

local UNDER_WAY = 15000 -- ms after which a try is over, whatever became of its gateway

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function failures(key)
  return tonumber(redis.call('GET', key) or '0')
end

local function under_way(key, now)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - UNDER_WAY)
  return redis.call('ZCARD', key)
end

-- every: each failure begins the window anew, as a domain controller's own count does (lockOutObservationWindow), or the
-- failures on both sides of a window's end would be forgotten here and counted there
local function count(key, limit, within, wait, every)
  local n = redis.call('INCR', key)
  if every or n == 1 then redis.call('PEXPIRE', key, within) end
  if n >= limit then redis.call('PEXPIRE', key, wait) end
end

-- Of pair, address and account: the limits that hold. Only a domain controller counts an account by itself, and there
-- strangers leave its last try to who has signed in from his address before.
local function limits(keys, args)
  local limit = tonumber(args[1])
  local of_account = math.huge
  if args[7] == '1' then
    of_account = redis.call('EXISTS', keys[4]) == 1 and limit or math.max(limit - 1, 1)
  end
  return { limit, tonumber(args[4]), of_account }
end

-- KEYS of pair, address, account: their counts; mark that the pair has signed in before; their tries under way
-- ARGV account limit, within, wait, address limit, within, wait (ms), 1 if a domain controller counts too, the try's id
-- 0: go on; more: refused for so many ms; -1: others are under way, ask again in a moment
local function begin(keys, args)
  local now, limit, left, others = now_ms(), limits(keys, args), 0, false
  for i = 1, 3 do
    local failed = failures(keys[i])
    if failed >= limit[i] then left = math.max(left, redis.call('PTTL', keys[i]), 1)
    elseif failed + under_way(keys[4 + i], now) >= limit[i] then others = true end
  end
  if left > 0 then return left end
  if others then return -1 end
  for i = 1, 3 do
    redis.call('ZADD', keys[4 + i], now, args[8])
    redis.call('PEXPIRE', keys[4 + i], UNDER_WAY)
  end
  return 0
end

local function leave(keys, id)
  for i = 5, 7 do redis.call('ZREM', keys[i], id) end
end

-- KEYS, ARGV as above: it was wrong
local function fail(keys, args)
  leave(keys, args[8])
  local limit = limits(keys, args)
  count(keys[1], limit[1], args[2], args[3])
  count(keys[2], limit[2], args[5], args[6])
  if args[7] == '1' then count(keys[3], limit[3], args[2], args[3], true) end
  return 0
end

-- KEYS as above; ARGV the try's id: it was no guess, nobody said whether it was right
local function withdraw(keys, args)
  leave(keys, args[1])
  return 0
end

-- KEYS as above, and the report of NTLM sign-ins; ARGV the try's id, ms for which the pair stays known, who in the report,
-- most entries of it
local function succeed(keys, args)
  leave(keys, args[1])
  redis.call('DEL', keys[1], keys[3])
  redis.call('SET', keys[4], '1', 'PX', args[2])
  local seen = 'n:' .. args[3]
  if redis.call('HEXISTS', keys[8], seen) == 1 or redis.call('HLEN', keys[8]) < tonumber(args[4]) then
    redis.call('HINCRBY', keys[8], seen, 1)
    redis.call('HSET', keys[8], 't:' .. args[3], redis.call('TIME')[1])
  end
  return 0
end

redis.register_function('calgate_guard_v2_begin', begin)
redis.register_function('calgate_guard_v2_fail', fail)
redis.register_function('calgate_guard_v2_withdraw', withdraw)
redis.register_function('calgate_guard_v2_succeed', succeed)
