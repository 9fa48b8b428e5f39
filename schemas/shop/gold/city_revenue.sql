/*
about: What the customers of each city have bought. A customer's orders move with the customer.
tests:
  - unique: [city, currency]
*/
select c.city, r.currency, count(*) as customers, sum(r.orders) as orders, sum(r.revenue) as revenue
from {{ gold.customer_revenue }} r
join {{ silver.customer }} c on c._key = r.customer_id
group by c.city, r.currency
