-- Records of ticks that say no time have that of the record before them, by which they find their day. Those that were
-- kept before that was so have none, 0, and would stay in DEFAULT: they are given the time of the newest record before
-- them of their instrument, or of the first there is. Where there is no other, it stays.

-- The owner sees all rows meanwhile.
alter table market_data.ticks no force row level security;

update market_data.ticks as stray set recv_ns = known.recv_ns
from (
    select
        claim.venue, claim.symbol, claim.log_offset,
        coalesce(max(near.recv_ns) filter (where near.log_offset < claim.log_offset), min(near.recv_ns)) as recv_ns
    from market_data.ticks as claim
    join market_data.ticks as near on near.symbol = claim.symbol and near.venue = claim.venue
    where claim.recv_ns = 0 and claim.row is null
    -- The first row of a record, of a day within reason.
    and near.header is not null and near.recv_ns between 946684800000000000 and 4102444800000000000
    group by claim.venue, claim.symbol, claim.log_offset
) as known
where stray.recv_ns = 0 and stray.row is null
and (stray.venue, stray.symbol, stray.log_offset) = (known.venue, known.symbol, known.log_offset);

alter table market_data.ticks force row level security;
