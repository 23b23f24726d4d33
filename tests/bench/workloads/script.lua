-- Tables, strings and closures in Lua; each is a block.
--
--   script.lua ROUNDS
local rounds = tonumber(arg[1])
local sum = 0
for round = 1, rounds do
    local words = {}
    for i = 1, 20000 do
        local key = "w" .. (i * i % 4999)
        local list = words[key]
        if list == nil then
            list = {}
            words[key] = list
        end
        list[#list + 1] = { number = i, text = tostring(i) .. "/" .. round }
    end
    local parts = {}
    for key, list in pairs(words) do
        local total = 0
        for _, entry in ipairs(list) do
            total = total + #entry.text + entry.number % 7
        end
        parts[#parts + 1] = key .. "=" .. total
    end
    table.sort(parts)
    local joined = table.concat(parts, ",")
    sum = (sum * 31 + #joined + joined:byte(round % #joined + 1)) % 2147483647
end
print("checksum " .. sum)
