-- The order of consumption: which CAL serves one claim. Reads only.
local order = {}

-- Somebody who asks; `field` is filled by field_of.
local function asker(user, name, client, document, groups)
  return {user = user, name = name, client = client, document = document, groups = groups, field = {}}
end

local function holder_of(ask)
  return ask.user .. '|' .. ask.client
end

-- What he has already, by kind; `texts` are those of his leases as `open` fetched them, behind two others.
function order.own(license, ask, texts)
  local own, first = {}, 2
  if not texts then
    if #license.kinds == 0 then return own end
    texts, first = redis.call('HMGET', license.leases, own_fields(ask, license.kinds)), 0
  end
  for index, kind in ipairs(license.kinds) do
    local text = texts[first + index]
    if text then
      own[kind] = lease.read(license, kind, field_of(ask, kind), text)
      if not own[kind] then ask.over = kind end   -- its time is over and nobody has ended it yet
    end
  end
  return own
end

-- A Named CAL that another machine uses: nil (no matter), or what is to happen.
local function other_client(license, it, ask)
  local policy = license.terms.named.other_client
  if policy == 'allow' then return nil end
  if includes(it.told, ask.client) then return 'taken-over' end
  if it.client == '' or it.client == ask.client then return nil end
  local used = lease.last_use(license, it)
  if not used or used + license.terms.session.idle_timeout <= license.now then return nil end
  return policy == 'refuse' and 'in-use-elsewhere' or 'take-over'
end

local function held(license, ask, own, kind)
  local it = own[kind]
  if not it or not lease.serves(license, it) then return nil end
  return {lease = it, other = kind == 'named' and other_client(license, it, ask) or nil}
end

local function new(license, ask, own, kind, why)
  if license.terms[kind].in_license == 0 then return nil end
  if kind == 'named' or kind == 'document' then
    if own[kind] then
      why[kind] = 'quarantined'   -- it occupies its place, and nobody has two
      return nil
    end
    if kind == 'document' and pool.allocated(license, ask.document) == 0 then
      why[kind] = 'not-allocated'
      return nil
    end
    if not pool.is_dynamic(license, kind, ask) then
      why[kind] = 'not-assigned'
      return nil
    end
  end
  local room, word, out, limit = pool.has_room(license, kind, ask)
  if room then return {kind = kind, out = out, limit = limit} end
  why[kind] = word
  return nil
end

local function taken_from_the_idle(license, ask)
  local victim = pool.reclaimable(license, ask)
  return victim and {kind = 'session', victim = victim}
end

-- The vendor's order, steps 1 to 6; only who would be denied takes from somebody idle.
local STEPS = {
  {held, 'named'}, {held, 'document'}, {new, 'named'}, {new, 'document'}, {held, 'session'}, {new, 'session'},
  {held, 'usage'}, {new, 'usage'}, {taken_from_the_idle, 'session'},
}

-- Of these, the ones for kinds that there are: worked out once, and kept with the kinds.
local function steps_for(kinds)
  if not kinds.steps then
    kinds.steps = {}
    for _, step in ipairs(STEPS) do
      if includes(kinds, step[2]) then table.insert(kinds.steps, step) end
    end
  end
  return kinds.steps
end

-- {lease, other}: one that he has. {kind, out, limit, victim}: a new one, with which so many are out. {why}: none, and a word for each kind.
function order.choose(license, ask, own)
  local why = {}
  for _, step in ipairs(steps_for(license.kinds)) do
    local choice = step[1](license, ask, own, step[2], why)
    if choice then return choice end
  end
  return {why = why}
end
