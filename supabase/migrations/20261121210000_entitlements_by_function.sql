-- What a desk may see is asked of two functions, whose plans a session keeps: written out in every policy it was planned
-- again with every query. They have the caller's rights, and the policies of the tables they read show a desk its own.
--
-- Each `(select ...)` is answered once for a query, not for each row.

create function desks.accounts() returns text[]
language plpgsql stable
as $$ begin return array(select owned.account from desks.account_owners as owned); end $$;
comment on function desks.accounts is 'The accounts of the desk that asks.';

create function desks.strategies() returns text[]
language plpgsql stable
as $$ begin return array(select entitled.strategy from desks.strategy_entitlements as entitled); end $$;
comment on function desks.strategies is 'The strategies to which the desk that asks is entitled.';

revoke all on function desks.accounts, desks.strategies from public;
grant execute on function desks.accounts, desks.strategies to authenticated;

alter policy own_accounts on trading.accounts using (account = any ((select desks.accounts())::text[]));
alter policy own_accounts on trading.fills using (account = any ((select desks.accounts())::text[]));
alter policy own_accounts on trading.orders using (account = any ((select desks.accounts())::text[]));
alter policy own_accounts on trading.positions using (account = any ((select desks.accounts())::text[]));
alter policy entitled on moe_analysis.decisions using (strategy = any ((select desks.strategies())::text[]));
alter policy entitled on moe_analysis.lineage using (strategy = any ((select desks.strategies())::text[]));
alter policy entitled on moe_analysis.expert_responses using ((select cardinality(desks.strategies()) > 0));
alter policy entitled on moe_analysis.contexts using (
    kind in ('regime', 'mood') and (select cardinality(desks.strategies()) > 0)
);
