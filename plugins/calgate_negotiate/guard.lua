#!lua name=calgate_guard_v2
-- Counts failed NTLM sign-ins. A count is a string that expires: after its window, or after the wait once it has reached
-- its limit. A sorted set for each count holds the attempts in progress, by start time, so that a hundred simultaneous
-- guesses are not all let through; a browser's six connections wait for each other instead, for milliseconds.
-- A success deletes the counts of its account, as a domain controller does.
--
-- KEYS  1-3 the counts of account and address together, of the address, of the account
--       4   the mark that the account has signed in from the address before
--       5-7 the attempts in progress of 1-3

local IN_PROGRESS = 15000 -- ms after which an attempt no longer counts as in progress: its gateway has died

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function failures(key)
  return tonumber(redis.call('GET', key) or '0')
end

local function in_progress(key, now)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - IN_PROGRESS)
  return redis.call('ZCARD', key)
end

-- restart: each failure restarts the window, as in a domain controller's own count (lockOutObservationWindow); otherwise
-- failures on both sides of a window's end would be forgotten here and counted there
local function count(key, limit, within, wait, restart)
  local n = redis.call('INCR', key)
  if restart or n == 1 then redis.call('PEXPIRE', key, within) end
  if n >= limit then redis.call('PEXPIRE', key, wait) end
end

-- Returns the limits of pair, address and account. The per-account limit applies only where a domain controller counts
-- failures too. Unknown addresses stop one attempt short of it: the last is kept for addresses that the account has signed
-- in from.
local function limits(keys, args)
  local limit = tonumber(args[1])
  local of_account = math.huge
  if args[7] == '1' then
    of_account = redis.call('EXISTS', keys[4]) == 1 and limit or math.max(limit - 1, 1)
  end
  return { limit, tonumber(args[4]), of_account }
end

-- Begins an attempt.
-- ARGV account limit, within, wait; address limit, within, wait (ms); 1 if a domain controller counts too; attempt's id
-- Returns 0: go ahead; above 0: refused for that many ms; -1: others are in progress, try again in a moment
local function begin(keys, args)
  local now, limit, left, others = now_ms(), limits(keys, args), 0, false
  for i = 1, 3 do
    local failed = failures(keys[i])
    if failed >= limit[i] then left = math.max(left, redis.call('PTTL', keys[i]), 1)
    elseif failed + in_progress(keys[4 + i], now) >= limit[i] then others = true end
  end
  if left > 0 then return left end
  if others then return -1 end
  for i = 1, 3 do
    redis.call('ZADD', keys[4 + i], now, args[8])
    redis.call('PEXPIRE', keys[4 + i], IN_PROGRESS)
  end
  return 0
end

local function leave(keys, id)
  for i = 5, 7 do redis.call('ZREM', keys[i], id) end
end

-- Counts an attempt that was wrong, or whose outcome is unknown. ARGV as for begin.
local function fail(keys, args)
  leave(keys, args[8])
  local limit = limits(keys, args)
  count(keys[1], limit[1], args[2], args[3])
  count(keys[2], limit[2], args[5], args[6])
  if args[7] == '1' then count(keys[3], limit[3], args[2], args[3], true) end
  return 0
end

-- Counts a guess that is known to be wrong, and that no account is known for.
-- KEYS the count of the address. ARGV address limit, within, wait (ms)
-- Returns 0, or above 0: the address must wait for that many ms, and nothing was counted
local function guess(keys, args)
  if failures(keys[1]) >= tonumber(args[1]) then return math.max(redis.call('PTTL', keys[1]), 1) end
  count(keys[1], tonumber(args[1]), args[2], args[3])
  return 0
end

-- Ends an attempt without counting it: no password was checked, or it was not found wrong. ARGV attempt's id
local function withdraw(keys, args)
  leave(keys, args[1])
  return 0
end

-- Ends an attempt that was right. KEYS 8 the report of NTLM sign-ins
-- ARGV attempt's id, ms for which the pair stays known, the report's field for user and address, most fields of the report
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
redis.register_function('calgate_guard_v2_guess', guess)
redis.register_function('calgate_guard_v2_withdraw', withdraw)
redis.register_function('calgate_guard_v2_succeed', succeed)
