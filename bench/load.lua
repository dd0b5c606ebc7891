-- load.lua - wrk's requests, and its figures as one JSON line.
-- Arguments after --: method, path (%d becomes a number below `spread`), body file or "-", key or "-", spread,
-- stagger: so many first requests begin at random within 150 ms.  Else connections that start together stay so,
-- where each answer takes the same time.
local method, path, body, headers, spread, stagger

function init(args)
   method, path, spread = args[1], args[2], tonumber(args[5] or "1")
   headers = { ["Content-Type"] = "application/json" }
   if args[4] and args[4] ~= "-" then headers["Authorization"] = "Bearer " .. args[4] end
   if args[3] and args[3] ~= "-" then
      local f = assert(io.open(args[3], "rb"))
      body = f:read("*a")
      f:close()
   end
   varied = path:find("%%d") ~= nil
   if not varied then fixed = wrk.format(method, path, headers, body) end
   math.randomseed(os.time())
   stagger = tonumber(args[6] or "0")
   if stagger > 0 then
      delay = function()
         stagger = stagger - 1
         return stagger >= 0 and math.random(150) or 0
      end
   end
end

function request()
   if not varied then return fixed end
   return wrk.format(method, (path:gsub("%%d", tostring(math.random(spread)))), headers, body)
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      'JSON {"requests":%d,"us":%d,"bytes":%d,"p50":%d,"p90":%d,"p99":%d,"max":%d,"errors":%d}\n',
      summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(90),
      latency:percentile(99), latency.max, e.connect + e.read + e.write + e.status + e.timeout))
end
