-- The only file that reads a clock, so that tests can load another one.

-- Returns the server's own time: milliseconds since 1970.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
