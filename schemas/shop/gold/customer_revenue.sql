/*
about: What each customer has bought, in each currency; what was cancelled or returned does not count.
incremental:
  key: [customer_id]
  from: {silver.order: [customer_id]}
tests:
  - not_null: [customer_id, currency]
  - unique: [customer_id, currency]
  - range: {column: revenue, min: 0}
*/
select
  customer_id,
  currency,
  count(*) as orders,
  sum(total) as revenue,
  max(placed_at) as last_order_at
from {{ silver.order }}
where status not in ('cancelled', 'returned')
group by customer_id, currency
