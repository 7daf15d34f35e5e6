#!lua name=calgate_token_v1
-- API tokens. A record is a hash under the digest of its token, which the store never has itself; Redis removes it some
-- time after the token's end. A record is written once; only its use and its revocation are noted later.

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- KEYS record. ARGV Unix time (ms) at which the record is removed, then fields and values. Returns 1.
local function new(keys, args)
  redis.call('HSET', keys[1], 'created', now_ms(), unpack(args, 2))
  redis.call('PEXPIREAT', keys[1], args[1])
  return 1
end

-- Notes a use of a token that is not revoked. KEYS record. ARGV the client's address.
-- Returns the fields and values of the record as it is now; none if there is no such token.
local function use(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then return {} end
  if redis.call('HEXISTS', keys[1], 'revoked') == 0 then
    redis.call('HSET', keys[1], 'last_used', now_ms(), 'last_address', args[1])
  end
  return redis.call('HGETALL', keys[1])
end

-- KEYS record. Returns 1, or 0 if there is no such token or it was revoked before.
local function revoke(keys)
  if redis.call('EXISTS', keys[1]) == 0 then return 0 end
  return redis.call('HSETNX', keys[1], 'revoked', now_ms())
end

redis.register_function('calgate_token_v1_new', new)
redis.register_function('calgate_token_v1_use', use)
redis.register_function('calgate_token_v1_revoke', revoke)
