#!lua name=calgate_guard_v1
-- Failed NTLM sign-ins, counted before they are tried, so that a hundred at once are not all let through.
-- Every count is a string that ends by itself: after its window, or, once it has reached its limit, after the wait.
-- A success ends the counts of its account, as it does those of a domain controller.

local function milliseconds_left(key)
  return math.max(redis.call('PTTL', key), 1)
end

-- Whether the count has reached its limit: the milliseconds until it ends, else 0
local function blocked_for(key, limit)
  if limit > 0 and tonumber(redis.call('GET', key) or '0') >= limit then return milliseconds_left(key) end
  return 0
end

local function count(key, limit, within, wait)
  local n = redis.call('INCR', key)
  if n == 1 then redis.call('PEXPIRE', key, within) end
  if limit > 0 and n >= limit then redis.call('PEXPIRE', key, wait) end
end

local function take_back(key)
  if tonumber(redis.call('GET', key) or '0') > 0 and redis.call('DECR', key) == 0 then redis.call('DEL', key) end
end

-- KEYS pair of account and address, address, account, mark that the pair has signed in before
-- ARGV account limit, within, wait, address limit, within, wait (ms), 1 if a domain controller counts too
-- An attempt is counted as failed; returns 0, or the milliseconds until the next is looked at.
-- Strangers leave the account's last try to who has signed in from there before.
local function begin(keys, args)
  local limit, within, wait = tonumber(args[1]), args[2], args[3]
  local passed_on = args[7] == '1'
  local known = redis.call('EXISTS', keys[4]) == 1
  local account_limit = passed_on and (known and limit or math.max(limit - 1, 1)) or 0
  local left = math.max(
    blocked_for(keys[1], limit), blocked_for(keys[2], tonumber(args[4])), blocked_for(keys[3], account_limit))
  if left > 0 then return left end
  count(keys[1], limit, within, wait)
  count(keys[2], tonumber(args[4]), args[5], args[6])
  if passed_on then count(keys[3], account_limit, within, wait) end
  return 0
end

-- KEYS as above; the attempt was no guess: nobody said whether it was right
local function withdraw(keys)
  for i = 1, 3 do take_back(keys[i]) end
  return 0
end

-- KEYS as above, and the report of NTLM sign-ins; ARGV milliseconds for which the pair stays known, who in the report,
-- most entries of it
local function succeed(keys, args)
  redis.call('DEL', keys[1], keys[3])
  take_back(keys[2])
  redis.call('SET', keys[4], '1', 'PX', args[1])
  local seen = 'n:' .. args[2]
  if redis.call('HEXISTS', keys[5], seen) == 1 or redis.call('HLEN', keys[5]) < tonumber(args[3]) then
    redis.call('HINCRBY', keys[5], seen, 1)
    redis.call('HSET', keys[5], 't:' .. args[2], redis.call('TIME')[1])
  end
  return 0
end

redis.register_function('calgate_guard_v1_begin', begin)
redis.register_function('calgate_guard_v1_withdraw', withdraw)
redis.register_function('calgate_guard_v1_succeed', succeed)
