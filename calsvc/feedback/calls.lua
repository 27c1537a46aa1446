-- What replicas ask of the records that they share, many calls in one go, each of them atomic and harmless when it
-- comes again. calsvc/feedback/valkey.py says what for.
--
-- KEYS: replicas, missing, waiting, then the record of each call.
-- ARGV: this replica, retention in ms, then six values for each call: its name and five arguments.
-- Returns an array for each call; its first element is what became of it.
--
-- A record: {nonce, made, answer, shadow, truth, claim}. `nonce` names one prediction of the record, `made` is when
-- (ms, by this server), `answer` and `shadow` are the replicas' own affair, `truth` is '' while it waits, `claim` names
-- the feedback that settled it; before that, it is {nonce, made} of the prediction that this one replaced, '' if none.
-- `replicas` holds when each replica was last heard of, `missing` those that others know of and that were not heard of
-- since this server has forgotten everything, `waiting` how many predictions wait of each stretch of time.

local replicas, missing, waiting = KEYS[1], KEYS[2], KEYS[3]
local me, retention = ARGV[1], tonumber(ARGV[2])
local slice = math.ceil(retention / 256)
local fresh = 1500
local NONCE, MADE, ANSWER, SHADOW, TRUTH, CLAIM = 1, 2, 3, 4, 5, 6

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- What is no record counts as none: one strange key must not keep all others from being kept.
local function read(key)
    local packed = redis.pcall('GET', key)
    if type(packed) ~= 'string' then return nil end
    local readable, record = pcall(cmsgpack.unpack, packed)
    return readable and type(record) == 'table' and #record == CLAIM and record or nil
end

local function write(key, record, ttl)
    redis.call('SET', key, cmsgpack.pack(record), 'PX', ttl)
end

local function count(made, by)
    redis.call('HINCRBY', waiting, math.floor(made / slice), by)
end

local calls = {}

-- A prediction is to wait. Of two, the later one does; one that was given before stays as it is, but for its time. The
-- reply names the one that waits no more, by its nonce and its age; one that is given again gets the reply of before.
function calls.remember(key, nonce, age, answer, again)
    local made = now - tonumber(age)
    local left = retention - tonumber(age)
    if left <= 0 then return {'expired'} end
    local old = read(key)
    local shadow, replaced = '', ''
    if old then
        if old[NONCE] == nonce then
            if old[TRUTH] ~= '' then return {'ok'} end
            shadow, replaced = old[SHADOW], old[CLAIM]
        elseif again == '1' and old[MADE] > made then
            return {'ok', nonce, tonumber(age)}
        elseif old[TRUTH] == '' then
            replaced = {old[NONCE], old[MADE]}
        end
        if old[TRUTH] == '' then count(old[MADE], -1) end
    end
    write(key, {nonce, made, answer, shadow, '', replaced}, left)
    count(made, 1)
    if replaced == '' then return {'ok'} end
    return {'ok', replaced[1], now - replaced[2]}
end

-- The challenger's answer comes beside the prediction, if that one still waits.
function calls.attach(key, nonce, shadow)
    local old = read(key)
    if not old or old[NONCE] ~= nonce or old[TRUTH] ~= '' then return {'gone'} end
    old[SHADOW] = shadow
    redis.call('SET', key, cmsgpack.pack(old), 'KEEPTTL')
    return {'ok'}
end

-- May another replica still hold what this server does not know? Then nobody can say that it is unknown.
local function unsure()
    if not redis.call('ZSCORE', replicas, me) or redis.call('EXISTS', missing) == 1 then return true end
    return redis.call('ZCOUNT', replicas, '-inf', now - fresh) + redis.call('ZCOUNT', replicas, now + fresh, '+inf') > 0
end

-- A truth comes. The same claim is told again what it was told before.
function calls.join(key, truth, claim)
    local old = read(key)
    if not old then return {unsure() and 'unsure' or 'unknown'} end
    local waits = old[TRUTH] == ''
    if not waits and old[CLAIM] ~= claim then
        return {old[TRUTH] == truth and 'duplicate' or 'conflict', old[TRUTH]}
    end
    if waits then
        count(old[MADE], -1)
        write(key, {old[NONCE], old[MADE], old[ANSWER], old[SHADOW], truth, claim}, retention)
    end
    return {'matched', now - old[MADE], old[ANSWER], old[SHADOW], old[NONCE]}
end

-- A truth that was joined is given back to a server that may have forgotten it.
function calls.settle(key, nonce, age, since, truth)
    local made = now - tonumber(age)
    local left = retention - tonumber(since)
    if left <= 0 then return {'expired'} end
    local old = read(key)
    if old then
        local another = old[NONCE] ~= nonce
        if (another and old[MADE] >= made) or (not another and old[TRUTH] ~= '') then return {'ok'} end
        if old[TRUTH] == '' then count(old[MADE], -1) end
    end
    write(key, {nonce, made, '', '', truth, ''}, left)
    return {'ok'}
end

local replies = {}
for i = 4, #KEYS do
    local at = 6 * (i - 4) + 3
    replies[#replies + 1] = calls[ARGV[at]](KEYS[i], unpack(ARGV, at + 1, at + 5))
end
return replies
