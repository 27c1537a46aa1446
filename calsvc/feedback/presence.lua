-- A replica says that it is there and holds nothing back, or only asks, and is told how things stand.
--
-- KEYS: replicas, missing, waiting; see calls.lua.
-- ARGV: this replica, retention in ms, 'look', 'stay' or 'come', ms for which it has been in touch without a break, then
-- the other replicas that it knows of. 'stay' counts only where the last sign is not old, and this server has not
-- forgotten it: who hears otherwise has to give back what it knows, and then to 'come'.
-- Returns: ms by this server, whether it knew this replica, whether its sign counts, predictions that wait, predictions
-- that have expired since somebody looked last, all replicas.

local replicas, missing, waiting = KEYS[1], KEYS[2], KEYS[3]
local me, retention, sign, in_touch = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local slice = math.ceil(retention / 256)
local fresh, gone = 1500, 60000

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local last = tonumber(redis.call('ZSCORE', replicas, me) or nil)
local counts_as_here = sign == 'come' or (sign == 'stay' and last ~= nil and math.abs(now - last) <= fresh)
if counts_as_here then
    redis.call('ZADD', replicas, now, me)
    redis.call('ZREM', missing, me)
end
if not last then
    -- The server has forgotten all of them, perhaps. Until they are back, they may hold what nobody else knows.
    for i = 5, #ARGV do
        if not redis.call('ZSCORE', replicas, ARGV[i]) then redis.call('ZADD', missing, now, ARGV[i]) end
    end
elseif in_touch >= gone then
    -- Only who was here all the time can tell that others were not. Those are taken for dead, and what they held for lost.
    for _, each in ipairs({replicas, missing}) do
        redis.call('ZREMRANGEBYSCORE', each, '-inf', now - gone)
        redis.call('ZREMRANGEBYSCORE', each, now + gone, '+inf')
    end
end

local counts = redis.call('HGETALL', waiting)
local wait, expired = 0, 0
for i = 1, #counts, 2 do
    if (counts[i] + 1) * slice < now - retention then
        redis.call('HDEL', waiting, counts[i])
        expired = expired + counts[i + 1]
    else
        wait = wait + counts[i + 1]
    end
end
return {now, last and 1 or 0, counts_as_here and 1 or 0, math.max(0, wait), math.max(0, expired), redis.call('ZRANGE', replicas, 0, -1)}
