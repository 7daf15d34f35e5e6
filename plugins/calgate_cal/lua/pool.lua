-- Pools: how many CALs are out, and how many one claimant could still have. Everything is counted where it is asked.
local pool = {}

function pool.occupied(license, kind)
  return redis.call('ZCOUNT', license[kind], '(' .. license.now, '+inf')
end

-- How many of a share are out or offered.
function pool.share(license, share)
  local after = share .. '\0' .. string.format('%013.0f', license.now) .. '\1'
  return redis.call('ZLEXCOUNT', license.shares, '(' .. after, '(' .. share .. '\1')
end

local function includes(list, wanted)
  for _, value in ipairs(list or {}) do
    if value == wanted then return true end
  end
  return false
end

-- Whether a new CAL of this kind may be assigned to the claimant by itself.
function pool.is_dynamic(license, kind, claimant)
  local terms = license.terms[kind]
  local set = kind == 'document' and license.settings['dynamic:document:' .. claimant.document]
    or license.settings[DYNAMIC[kind]]
  local on = terms.dynamic
  if set then on = set == '1' end
  if not on then return false end
  if not terms.dynamic_for then return true end
  for _, group in ipairs(claimant.groups) do
    if includes(terms.dynamic_for, group) then return true end
  end
  return false
end

function pool.allocated(license, document)
  return tonumber(license.settings['allocated:' .. document] or 0)
end

-- How many of a share are out or offered, not counting what would be given up first: a lease that is taken away, the
-- claimant's own offer.
local function share_less(license, kind, share, given_up)
  local count = pool.share(license, share)
  for _, lease in pairs(given_up) do
    if includes(shares_of(kind, lease), share) then count = count - 1 end
  end
  return count
end

-- Seats kept for groups that the claimant is not in.
local function kept_for_others(license, claimant, given_up)
  local kept = 0
  for _, reserve in ipairs(license.terms.session.reserve) do
    if not includes(claimant.groups, reserve.group) then
      kept = kept + math.max(0, reserve.cals - share_less(license, 'session', 'g:' .. reserve.group, given_up))
    end
  end
  return kept
end

local function is_capped(license, claimant, given_up)
  for _, cap in ipairs(license.terms.session.max) do
    if includes(claimant.groups, cap.group) and share_less(license, 'session', 'g:' .. cap.group, given_up) >= cap.cals then
      return true
    end
  end
  return false
end

-- Can the claimant have one more CAL of this kind? Answers whether, then a word why not, then how many are out with it
-- and what the limit is (more than that is overdraft). `without` is a lease that would be taken away first.
function pool.has_room(license, kind, claimant, without)
  local limit = limit_of(license, kind)
  local most = limit + (license.terms[kind].overdraft or 0)
  local out = pool.occupied(license, kind) - (without and 1 or 0)
  if out >= most then return false, 'full' end
  local mine = claimant.waiter and claimant.waiter.offer == kind and claimant.waiter or nil
  local offered = license.terms.queue and pool.share(license, OFFERS[kind]) - (mine and 1 or 0) or 0
  local given_up = {without = without, mine = mine}
  if kind == 'document' then
    local out_of_it = share_less(license, kind, 'd:' .. claimant.document, given_up)
    if out_of_it >= pool.allocated(license, claimant.document) then return false, 'full' end
  elseif kind == 'session' and license.terms.session.shared then
    if is_capped(license, claimant, given_up) then return false, 'capped' end
    local kept = kept_for_others(license, claimant, given_up)
    if out + offered < most and out + offered + kept >= most then return false, 'reserved' end
  end
  if out + offered >= most then return false, 'promised' end
  return true, '', out + 1, limit
end

-- The Session CAL to take away so that the claimant can have one: idle long enough, past its minimum, the least recently
-- used first. Looks at no more than a hundred; without reserves and caps the first will do.
function pool.reclaimable(license, claimant)
  local terms = license.terms.session
  if not terms.reclaimable_after or limit_of(license, 'session') == 0 then return nil end
  local idle = redis.call('ZRANGE', license.idle, '-inf', license.now - terms.reclaimable_after, 'BYSCORE',
    'LIMIT', 0, 100)
  for _, field in ipairs(idle) do
    local lease = leases.read(license, 'session', field)
    if lease and lease.granted + terms.minimum <= license.now and pool.has_room(license, 'session', claimant, lease) then return lease end
  end
  return nil
end

-- When the least recently used Session CAL can be reclaimed. Those whose time is over and that nobody has ended yet are
-- passed over.
local function ripe_at(license)
  local terms = license.terms.session
  if not terms.reclaimable_after then return FOREVER end
  for _, field in ipairs(redis.call('ZRANGE', license.idle, 0, 99)) do
    local lease = leases.read(license, 'session', field)
    if lease then
      local ripe = math.max(lease.granted + terms.minimum, leases.last_use(license, lease) + terms.reclaimable_after)
      return math.max(ripe, license.now)
    end
  end
  return FOREVER
end

-- When the next CAL of a kind can come free by itself, or be reclaimed; nil: not by itself.
function pool.free_at(license, kind)
  local first = redis.call('ZRANGE', license[kind], '(' .. license.now, FOREVER - 1, 'BYSCORE', 'LIMIT', 0, 1,
    'WITHSCORES')[2]
  local free = tonumber(first or FOREVER)
  if kind == 'session' then free = math.min(free, ripe_at(license)) end
  return free < FOREVER and free or nil
end

-- How full one pool is, for people: {kind, limit, occupied, free_at, note}.
function pool.snapshot(license, kind, note)
  return {kind = kind, limit = limit_of(license, kind), occupied = pool.occupied(license, kind),
    free_at = pool.free_at(license, kind), note = note or ''}
end
