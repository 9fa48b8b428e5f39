/*
about: What was bought on each day, in each currency.
incremental:
  key: [day]
  from: {silver.order: ["cast(placed_at as date)"]}
tests:
  - not_null: [day]
  - unique: [day, currency]
  - range: {column: revenue, min: 0}
*/
select cast(placed_at as date) as day, currency, count(*) as orders, sum(total) as revenue
from {{ silver.order }}
where status not in ('cancelled', 'returned')
group by cast(placed_at as date), currency
