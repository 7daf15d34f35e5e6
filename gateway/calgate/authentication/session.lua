#!lua name=calgate_session_v1
-- Signed-in browsers. One hash a session, under the SHA-256 of its id, so that who reads the store cannot sign in.
-- Fields: those of the identity, plus idle_until, expires, ended; "c:…" is a cookie of the document server's.
-- Time is the server's own. A record outlives its session: it still tells whose the browser's cookies were.

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- KEYS session; ARGV lifetime, first idle span, span the record outlives it (ms), then field, value, …
local function begin(keys, args)
  local now = now_ms()
  local until_idle = now + tonumber(args[2])
  redis.call('DEL', keys[1])
  redis.call('HSET', keys[1], 'expires', now + tonumber(args[1]), 'idle_until', until_idle, 'created', now, unpack(args, 4))
  redis.call('PEXPIREAT', keys[1], until_idle + tonumber(args[3]))
  return now
end

-- KEYS session; ARGV idle span (0: look only), span the record outlives it (ms). A live session is kept; returns {now, field, value, …} or {}
local function look(keys, args)
  local record = redis.call('HGETALL', keys[1])
  if #record == 0 then return {} end
  local field = {}
  for i = 1, #record, 2 do field[record[i]] = record[i + 1] end
  local now = now_ms()
  local expires = tonumber(field.expires)
  if tonumber(args[1]) > 0 and not field.ended and now < tonumber(field.idle_until) and now < expires then
    local until_idle = math.min(now + tonumber(args[1]), expires)
    redis.call('HSET', keys[1], 'idle_until', until_idle)
    redis.call('PEXPIREAT', keys[1], until_idle + tonumber(args[2]))
  end
  return { tostring(now), unpack(record) }
end

-- KEYS session; ARGV fields to set. Only where the session is: a late write must not bring it back. Returns 1 or 0
local function note(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then return 0 end
  redis.call('HSET', keys[1], unpack(args))
  return 1
end

-- KEYS session; ARGV reason, span the record outlives it (ms). Returns 1 if it was not ended before
local function finish(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then return 0 end
  local first = redis.call('HSETNX', keys[1], 'ended', args[1])
  redis.call('PEXPIRE', keys[1], args[2])
  return first
end

-- KEYS session; ARGV first idle span (ms). Removes a session whose cookie came back to no gateway: who has seen it has
-- kept it for longer than that. Returns 1 or 0
local function discard(keys, args)
  local times = redis.call('HMGET', keys[1], 'created', 'idle_until')
  if not times[1] or tonumber(times[2]) > tonumber(times[1]) + tonumber(args[1]) then return 0 end
  return redis.call('UNLINK', keys[1])
end

-- KEYS the person's index; ARGV session, longest life of one (ms). Those that must be over by now leave the index
local function enlist(keys, args)
  local now = now_ms()
  redis.call('ZADD', keys[1], now + tonumber(args[2]), args[1])
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', now)
  redis.call('PEXPIRE', keys[1], tonumber(args[2]))
  return 1
end

redis.register_function('calgate_session_v1_enlist', enlist)
redis.register_function('calgate_session_v1_begin', begin)
redis.register_function('calgate_session_v1_look', look)
redis.register_function('calgate_session_v1_note', note)
redis.register_function('calgate_session_v1_finish', finish)
redis.register_function('calgate_session_v1_discard', discard)
