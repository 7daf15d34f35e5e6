-- Pools: how many CALs are occupied, and whether one claimant could have one more. Everything is counted when needed.
local pool = {}

-- Returns how many CALs of a share are occupied or offered.
function pool.share(license, share)
  local after = share .. '\0' .. string.format('%013.0f', license.now) .. '\1'
  return redis.call('ZLEXCOUNT', license.shares, '(' .. after, '(' .. share .. '\1')
end

-- Returns how many leases in observe mode are beyond the limit: they decide nothing.
function pool.beyond(license, kind)
  if license.terms.enforce or kind ~= 'session' then return 0 end
  return pool.share(license, 'b:session')
end

function pool.occupied(license, kind)
  return redis.call('ZCOUNT', license[kind], '(' .. license.now, '+inf') - pool.beyond(license, kind)
end

local function includes(list, wanted)
  for _, value in ipairs(list or {}) do
    if value == wanted then return true end
  end
  return false
end

-- Returns whether a new CAL of this kind can be assigned to the claimant without an administrator.
function pool.is_dynamic(license, kind, claimant)
  local terms = license.terms[kind]
  local set = kind == 'document' and
    license.settings['dynamic:document:' .. (claimant.cal_document or claimant.document)] or license.settings[DYNAMIC[kind]]
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

-- Returns how many CALs of a share are occupied or offered without those that would be given up first: a lease that is
-- taken away, the claimant's own offer.
local function share_less(license, kind, share, given_up)
  local count = pool.share(license, share)
  for _, lease in pairs(given_up) do
    if includes(shares_of(license, kind, lease), share) then count = count - 1 end
  end
  return count
end

-- Returns how many CALs are kept for groups that the claimant is not in.
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
    local is_member = includes(claimant.groups, cap.group)
    if is_member and share_less(license, 'session', 'g:' .. cap.group, given_up) >= cap.cals then return true end
  end
  return false
end

local NONE_ANONYMOUS = {max = 0, per_address = 0}

-- Returns a code why one more anonymous browser of this network can have no CAL; nil where it can have one.
local function anonymous_bound(license, network)
  local terms = license.terms.anonymous or NONE_ANONYMOUS
  if pool.share(license, 'a:') >= terms.max then return 'anonymous-full' end
  if pool.share(license, 'a:' .. network) >= terms.per_address then return 'address-full' end
  return nil
end

-- Returns how many CALs of a kind can be occupied, overdraft included; anonymous browsers get none of the overdraft.
local function most_of(license, kind, network)
  return limit_of(license, kind) + (not network and license.terms[kind].overdraft or 0)
end

-- Returns whether the claimant can have one more CAL of this kind, a code why not, the number occupied with it and the
-- limit (a number above it is overdraft). `without` is a lease that would be taken away first.
function pool.has_room(license, kind, claimant, without)
  local most = most_of(license, kind, claimant.network)
  local out = pool.occupied(license, kind) - (without and 1 or 0)
  if out >= most then return false, 'full' end
  local bound = claimant.network and anonymous_bound(license, claimant.network)
  if bound then return false, bound end
  local mine = claimant.waiter and claimant.waiter.offer == kind and claimant.waiter or nil
  local offered = license.terms.queue and pool.share(license, OFFERS[kind]) - (mine and 1 or 0) or 0
  local given_up = {without = without, mine = mine}
  if kind == 'document' then
    local document = claimant.cal_document or claimant.document
    if share_less(license, kind, 'd:' .. document, given_up) >= pool.allocated(license, document) then
      return false, 'full'
    end
  elseif kind == 'session' and license.terms.session.shared then
    if is_capped(license, claimant, given_up) then return false, 'capped' end
    local kept = kept_for_others(license, claimant, given_up)
    if out + offered < most and out + offered + kept >= most then return false, 'reserved' end
  end
  if out + offered >= most then return false, 'promised' end
  return true, '', out + 1, limit_of(license, kind)
end

-- Returns the Session CAL to take away so that the claimant can have one: idle long enough, past its minimum, the least
-- recently used first. Looks at a hundred at most; without reserves and caps the first one fits.
function pool.reclaimable(license, claimant)
  local terms = license.terms.session
  if not terms.reclaimable_after or limit_of(license, 'session') == 0 then return nil end
  local idle = redis.call('ZRANGE', license.idle, '-inf', license.now - terms.reclaimable_after, 'BYSCORE',
    'LIMIT', 0, 100)
  for _, field in ipairs(idle) do
    local lease = leases.read(license, 'session', field)
    local is_old = lease and lease.granted + terms.minimum <= license.now
    local counts = lease and (license.terms.enforce or not lease.beyond)
    if is_old and counts and pool.has_room(license, 'session', claimant, lease) then return lease end
  end
  return nil
end

-- Returns when the least recently used Session CAL can be reclaimed; passes over leases whose time is over.
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

-- Returns how many CALs must come back before one is free for a new claim, if more are occupied than there can be.
function pool.excess(license, kind)
  return math.max(0, pool.occupied(license, kind) - most_of(license, kind))
end

-- Returns when the next CAL of a kind can come free by itself, or be reclaimed; nil: not by itself. CALs beyond the limit
-- have to come back first, and with a limit of 0 none comes free.
function pool.free_at(license, kind)
  if most_of(license, kind) == 0 then return nil end
  local excess = pool.excess(license, kind)
  local first = redis.call('ZRANGE', license[kind], '(' .. license.now, FOREVER - 1, 'BYSCORE', 'LIMIT', excess, 1,
    'WITHSCORES')[2]
  local free = tonumber(first or FOREVER)
  if kind == 'session' and excess == 0 then free = math.min(free, ripe_at(license)) end
  return free < FOREVER and free or nil
end

-- Returns how full one pool is: {kind, limit, occupied, free_at, note}.
function pool.snapshot(license, kind, note)
  return {kind = kind, limit = limit_of(license, kind), occupied = pool.occupied(license, kind),
    free_at = pool.free_at(license, kind), note = note or ''}
end
