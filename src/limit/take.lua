-- All limits that a request meets, decided at once: taken out of all of their buckets, or of none.
--
-- KEYS: the buckets. ARGV: what is taken, below 0 where it is given back; then for each bucket five words:
--   "rate", seconds and nanoseconds in which one comes back, and in which the whole bucket does
--   "day" or "month", how much there is in each, and three words that say nothing
-- Returns three numbers for each limit that refuses: its place in KEYS, and the seconds and
-- nanoseconds after which there is enough. Nothing is returned where all admit.
--
-- Times are pairs of seconds and nanoseconds: a number of Lua is exact up to 2^53 only.

local SECOND, DAY = 1000000000, 86400
-- A bucket is kept this many seconds longer than it says anything: the server's clock may be set
-- back a little.
local KEPT_LONGER = 5

local now_seconds, now_nanos = tonumber(clock[1]), clock[2] * 1000
local cost = tonumber(ARGV[1])

local function whole(number)
  return string.format('%.0f', number)
end

local function split(kept)
  local first, second = string.match(kept or '', '^(%d+) (%d+)$')
  return tonumber(first), tonumber(second)
end

-- The generic cell rate algorithm. Kept: when the bucket is full again.
local function rate(kept, each_seconds, each_nanos, all_seconds, all_nanos)
  local seconds, nanos = 0, 0
  local full_seconds, full_nanos = split(kept)
  if full_seconds then
    seconds, nanos = full_seconds - now_seconds, full_nanos - now_nanos
    if nanos < 0 then
      seconds, nanos = seconds - 1, nanos + SECOND
    end
    if seconds < 0 then
      seconds, nanos = 0, 0
    end
  end
  nanos = nanos + each_nanos * cost
  seconds = seconds + each_seconds * cost + math.floor(nanos / SECOND)
  nanos = nanos % SECOND
  if seconds < 0 then
    seconds, nanos = 0, 0
  end
  if all_seconds < seconds or (all_seconds == seconds and all_nanos < nanos) then
    seconds, nanos = seconds - all_seconds, nanos - all_nanos
    if nanos < 0 then
      seconds, nanos = seconds - 1, nanos + SECOND
    end
    return nil, seconds, nanos
  end
  local ttl = seconds + 1 + KEPT_LONGER
  seconds, nanos = now_seconds + seconds, now_nanos + nanos
  if SECOND <= nanos then
    seconds, nanos = seconds + 1, nanos - SECOND
  end
  return whole(seconds) .. ' ' .. whole(nanos), ttl
end

-- Days from 1970 to the first of March in the year 400 * era + year; days and months are counted
-- from March on, so that a leap day is a year's last.
local function march(era, year)
  local leaps = math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
  return era * 146097 + year * 365 + leaps - 719468
end

local function month_end()
  local days = math.floor(now_seconds / DAY) + 719468
  local era = math.floor(days / 146097)
  local day = days - era * 146097
  local leaps = math.floor(day / 1460) - math.floor(day / 36524) + math.floor(day / 146096)
  local year = math.floor((day - leaps) / 365)
  local of_year = days - 719468 - march(era, year)
  local month = math.floor((5 * of_year + 2) / 153)
  if month == 11 then
    return march(era, year + 1) * DAY
  end
  return (march(era, year) + math.floor((153 * (month + 1) + 2) / 5)) * DAY
end

-- Kept: when the window ends, and what was taken in it.
local function budget(kept, window, amount)
  local ends, spent = split(kept)
  if not ends or ends <= now_seconds then
    ends, spent = (math.floor(now_seconds / DAY) + 1) * DAY, 0
    if window == 'month' then
      ends = month_end()
    end
  end
  if spent + cost < 0 then
    spent = -cost
  end
  if amount < spent + cost then
    return nil, ends - now_seconds, 0
  end
  return whole(ends) .. ' ' .. whole(spent + cost), ends - now_seconds + KEPT_LONGER
end

local kept, ttls, refused = {}, {}, {}
for at, key in ipairs(KEYS) do
  local words = {}
  for word = 1, 5 do
    words[word] = ARGV[1 + (at - 1) * 5 + word]
  end
  local seconds, nanos
  if words[1] == 'rate' then
    kept[at], seconds, nanos = rate(redis.call('GET', key), tonumber(words[2]),
      tonumber(words[3]), tonumber(words[4]), tonumber(words[5]))
  else
    kept[at], seconds, nanos = budget(redis.call('GET', key), words[1], tonumber(words[2]))
  end
  ttls[at] = seconds
  if not kept[at] then
    refused[#refused + 1] = at
    refused[#refused + 1] = seconds
    refused[#refused + 1] = nanos
  end
end
if #refused == 0 then
  for at, key in ipairs(KEYS) do
    redis.call('SET', key, kept[at], 'EX', whole(ttls[at]))
  end
end
return refused
