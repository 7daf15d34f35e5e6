#!lua name=calgate_workers_v1
-- What each worker of each gateway reported last: a hash, by worker. Times are Redis' own, so gateways' clocks do not matter.

local function now()
  return tonumber(redis.call('TIME')[1])
end

-- Stores a report, and drops those that are too old. KEYS reports. ARGV worker, JSON of the report, seconds that reports
-- are kept. Returns 1.
local function report(keys, args)
  local oldest = now() - tonumber(args[3])
  for _, worker in ipairs(redis.call('HKEYS', keys[1])) do
    local at = redis.call('HGET', keys[1], worker):match('^%d+')
    if not at or tonumber(at) < oldest then redis.call('HDEL', keys[1], worker) end
  end
  redis.call('HSET', keys[1], args[1], now() .. ' ' .. args[2])
  redis.call('EXPIRE', keys[1], args[3])
  return 1
end

-- KEYS reports. Returns for each worker the age of its report in seconds, and the report.
local function read(keys)
  local found = {}
  for _, stored in ipairs(redis.call('HVALS', keys[1])) do
    local at, text = stored:match('^(%d+) (.*)$')
    if at then
      found[#found + 1] = now() - tonumber(at)
      found[#found + 1] = text
    end
  end
  return found
end

redis.register_function('calgate_workers_v1_report', report)
redis.register_function{function_name = 'calgate_workers_v1_read', callback = read, flags = {'no-writes'}}
