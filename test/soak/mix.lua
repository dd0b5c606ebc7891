-- What wrk sends: of each hundred requests so many of each kind; written to sequin_proxy's URL in $ROOT with the key in $KEY.
local root = os.getenv("ROOT")          -- /identifier/api.hubapi.com
local key = os.getenv("KEY")
local contacts = "/crm/v3/objects/contacts"
local json = {["Authorization"] = "Bearer " .. key, ["Content-Type"] = "application/json"}
local stranger = {["Authorization"] = "Bearer sqk_nobody"}
local turn = 0

local function id() return 1000000 + turn * 7919 % 20000 end

local function batch()
  local inputs = {}
  for i = 1, 10 do inputs[i] = string.format('{"id":"%d","properties":{"p00":"b"}}', 1000000 + (turn * 31 + i) % 20000) end
  return '{"inputs":[' .. table.concat(inputs, ",") .. "]}"
end

local kinds = {
  {35, function() return wrk.format("GET", root .. contacts .. "/" .. id(), json) end},
  {20, function() return wrk.format("PATCH", root .. contacts .. "/" .. id(), json, '{"properties":{"p00":"x"}}') end},
  {15, function() return wrk.format("POST", root .. contacts, json, '{"properties":{"p00":"new"}}') end},
  {3, function() return wrk.format("POST", root .. contacts .. "/batch/update", json, batch()) end},
  {5, function() return wrk.format("POST", root .. contacts .. "/search", json, '{"limit":1}') end},
  {5, function() return wrk.format("DELETE", root .. contacts .. "/" .. id(), json) end},
  {4, function() return wrk.format("PATCH", root .. contacts .. "/refused", json, '{"properties":{"p00":"x"}}') end},
  {3, function() return wrk.format("GET", root .. "/crm/v3/objects/contacts/broken", json) end},
  {4, function() return wrk.format("GET", root .. contacts, stranger) end},
  {3, function() return wrk.format("GET", "/nobody/api.hubapi.com" .. contacts, json) end},
  {3, function() return wrk.format("GET", root .. "/contacts/v1/lists", json) end},
}

local deck = {}
for _, kind in ipairs(kinds) do for _ = 1, kind[1] do deck[#deck + 1] = kind[2] end end
for i = #deck, 2, -1 do local j = i * 7919 % i + 1; deck[i], deck[j] = deck[j], deck[i] end

function request()
  turn = turn + 1
  if turn % 997 == 0 then return wrk.format("GET", root .. contacts .. "/gone", json) end
  return deck[turn % #deck + 1]()
end
