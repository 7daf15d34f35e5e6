-- The order of consumption: which CAL serves one claim. Reads only.
local order = {}

-- Returns somebody who claims a CAL; `field` is filled by field_of.
local function new_claimant(user, name, client, document, groups)
  return {user = user, name = name, client = client, document = document, groups = groups, field = {}}
end

local function holder_of(claimant)
  return claimant.user .. '|' .. claimant.client
end

-- Returns what the claimant holds, by kind. `texts` are their leases as `open` fetched them, after two other values.
function order.held(license, claimant, texts)
  local held, first = {}, 2
  if not texts then
    if #license.kinds == 0 then return held end
    texts, first = redis.call('HMGET', license.leases, held_fields(claimant, license.kinds)), 0
  end
  for index, kind in ipairs(license.kinds) do
    local text = texts[first + index]
    if text then
      held[kind] = leases.read(license, kind, field_of(claimant, kind), text)
      if not held[kind] then claimant.over = kind end   -- its time is over, and no call has ended it yet
    end
  end
  if claimant.other_document and not held.document then held.document = leases.read_held(license, claimant, 'document') end
  return held
end

-- Returns what happens because another machine uses a Named CAL; nil: nothing.
local function other_client(license, lease, claimant)
  local policy = license.terms.named.other_client
  if policy == 'allow' then return nil end
  if includes(lease.told, claimant.client) then return 'taken-over' end
  if lease.client == '' or lease.client == claimant.client then return nil end
  local used = leases.last_use(license, lease)
  if not used or used + license.terms.session.idle_timeout <= license.now then return nil end
  return policy == 'refuse' and 'in-use-elsewhere' or 'take-over'
end

local function use_held(license, claimant, held, kind)
  local lease = held[kind]
  if not lease or not leases.serves(license, lease) then return nil end
  return {lease = lease, other = kind == 'named' and other_client(license, lease, claimant) or nil}
end

local function take_new(license, claimant, held, kind, why)
  if license.terms[kind].in_license == 0 then return nil end
  if kind == 'named' or kind == 'document' then
    if held[kind] then
      why[kind] = 'quarantined'   -- it is still occupied, and no user has two
      return nil
    end
    if kind == 'document' and pool.allocated(license, claimant.cal_document or claimant.document) == 0 then
      why[kind] = 'not-allocated'
      return nil
    end
    if not pool.is_dynamic(license, kind, claimant) then
      why[kind] = 'not-assigned'
      return nil
    end
  end
  local room, code, out, limit = pool.has_room(license, kind, claimant)
  if room then return {kind = kind, out = out, limit = limit} end
  why[kind] = code
  return nil
end

local function reclaim(license, claimant)
  local victim = pool.reclaimable(license, claimant)
  return victim and {kind = 'session', victim = victim}
end

-- The vendor's order, steps 1 to 6. An idle holder loses a CAL only to a claimant who would be denied.
local STEPS = {
  {use_held, 'named'}, {use_held, 'document'}, {take_new, 'named'}, {take_new, 'document'},
  {use_held, 'session'}, {take_new, 'session'}, {use_held, 'usage'}, {take_new, 'usage'}, {reclaim, 'session'},
}

-- An anonymous browser has Session CALs only, and never one that a user left idle.
local ANONYMOUS_STEPS = {{use_held, 'session'}, {take_new, 'session'}}

-- Returns the steps for the kinds that there are: worked out once, and kept with the kinds.
local function steps_for(kinds)
  if not kinds.steps then
    kinds.steps = {}
    for _, step in ipairs(STEPS) do
      if includes(kinds, step[2]) then table.insert(kinds.steps, step) end
    end
  end
  return kinds.steps
end

-- Returns {lease, other} for a CAL that the claimant holds; {kind, out, limit, victim} for a new one, with which so many
-- are occupied; {why} with a code for each kind where there is none.
function order.choose(license, claimant, held)
  local why = {}
  for _, step in ipairs(claimant.network and ANONYMOUS_STEPS or steps_for(license.kinds)) do
    local choice = step[1](license, claimant, held, step[2], why)
    if choice then return choice end
  end
  return {why = why}
end
