-- The one place that reads a clock, so that tests can load another in its place.
-- Returns milliseconds since 1970 by the server's own time.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
