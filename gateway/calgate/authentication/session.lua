#!lua name=calgate_session_v1
-- Sessions. Each is one hash, under the SHA-256 of its id, so that nobody who can read the store can sign in.
-- Fields: those of the identity, plus idle_until, expires, ended; "c:…" is a cookie of the document server, with the
-- digest of its name and value. Time is the server's own. A record outlives its session: it still says whose cookies
-- the browser holds. A second hash for each period knows to which person the document server gave a cookie.

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- KEYS session. ARGV lifetime, first idle time, time that the record outlives the session (all ms), then field,
-- value, … Returns the time now (ms).
local function begin(keys, args)
  local now = now_ms()
  local until_idle = now + tonumber(args[2])
  redis.call('DEL', keys[1])
  redis.call('HSET', keys[1], 'expires', now + tonumber(args[1]), 'idle_until', until_idle, 'created', now, unpack(args, 4))
  redis.call('PEXPIREAT', keys[1], until_idle + tonumber(args[3]))
  return now
end

-- KEYS session. ARGV idle time (0: do not renew), time that the record outlives the session (ms). Renews a live
-- session. Returns {now, field, value, …}, or {} where there is no record.
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

-- KEYS session. ARGV field, value, …; an empty value removes its field. A late write must not bring a removed session
-- back. Returns 1, or 0 where there is no such session.
local function note(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then return 0 end
  for i = 1, #args, 2 do
    if args[i + 1] == '' then
      redis.call('HDEL', keys[1], args[i])
    else
      redis.call('HSET', keys[1], args[i], args[i + 1])
    end
  end
  return 1
end

-- KEYS this period's cookies. ARGV life of the period (ms), person, number of digests given up, those digests, and the
-- digests that the person was given. Returns 1.
local function claim_cookies(keys, args)
  local given_up = tonumber(args[3])
  for i = 4, 3 + given_up do redis.call('HDEL', keys[1], args[i]) end
  for i = 4 + given_up, #args do redis.call('HSET', keys[1], args[i], args[2]) end
  redis.call('PEXPIRE', keys[1], args[1])
  return 1
end

-- KEYS session. ARGV reason, time that the record outlives the session (ms). Returns 1 if it had not ended before.
local function finish(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then return 0 end
  local first = redis.call('HSETNX', keys[1], 'ended', args[1])
  redis.call('PEXPIRE', keys[1], args[2])
  return first
end

-- KEYS session. ARGV first idle time (ms). Removes a session whose cookie came back to no gateway: a gateway that has
-- seen the cookie has renewed the session for longer than that. Returns 1 or 0.
local function discard(keys, args)
  local times = redis.call('HMGET', keys[1], 'created', 'idle_until')
  if not times[1] or tonumber(times[2]) > tonumber(times[1]) + tonumber(args[1]) then return 0 end
  return redis.call('UNLINK', keys[1])
end

-- KEYS the person's index. ARGV session, longest life of a session (ms). Removes from the index the sessions that must
-- be over by now. The index is in order of time, to the microsecond: a call that removes the oldest must not find the
-- newest instead where both were added within a millisecond. Returns 1.
local function enlist(keys, args)
  local t = redis.call('TIME')
  local now = t[1] * 1000 + t[2] / 1000
  redis.call('ZADD', keys[1], now + tonumber(args[2]), args[1])
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', now)
  redis.call('PEXPIRE', keys[1], tonumber(args[2]))
  return 1
end

-- KEYS the browsers of a person at an address. ARGV new id, id that the browser sent ("": none), User-Agent's hash, time
-- that its connection has been open (ms), 1 for Office, time within which an id is shared (ms), time it is kept (ms).
-- Returns the id that the browser has from now on.
local function browser(keys, args)
  local now = now_ms()
  local new_id, sent, agent = args[1], args[2], 'agent:' .. args[3]
  local began, window = now - tonumber(args[4]), tonumber(args[6])
  local function give(id, ...)
    if redis.call('HLEN', keys[1]) > 20 then redis.call('DEL', keys[1]) end
    redis.call('HSET', keys[1], 'last', id, ...)
    redis.call('PEXPIRE', keys[1], args[7])
    return id
  end
  if sent ~= '' then
    redis.call('HDEL', keys[1], 'office')
    return give(sent)
  end
  local last, office = unpack(redis.call('HMGET', keys[1], 'last', 'office'))
  if args[5] == '1' then
    return last or give(new_id, 'office', now)
  end
  if last and office and now - tonumber(office) < window then
    redis.call('HDEL', keys[1], 'office')
    return give(last, agent, last .. ' ' .. now)
  end
  local id, given = string.match(redis.call('HGET', keys[1], agent) or '', '^(%S+) (%d+)$')
  if id and tonumber(given) >= began and now - tonumber(given) < window then return id end
  return give(new_id, agent, new_id .. ' ' .. now)
end

redis.register_function('calgate_session_v1_browser', browser)
redis.register_function('calgate_session_v1_enlist', enlist)
redis.register_function('calgate_session_v1_begin', begin)
redis.register_function('calgate_session_v1_look', look)
redis.register_function('calgate_session_v1_note', note)
redis.register_function('calgate_session_v1_claim_cookies', claim_cookies)
redis.register_function('calgate_session_v1_finish', finish)
redis.register_function('calgate_session_v1_discard', discard)
