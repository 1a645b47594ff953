-- key: kind
-- title: Customers by kind
-- description: How many applicants and students there are, and how many of them are in each state.
SELECT s.kind,
       count(*) AS total,
       count(*) FILTER (WHERE s.state = 0) AS not_synced,
       count(*) FILTER (WHERE s.state = 1) AS synced,
       count(*) FILTER (WHERE s.state = 2) AS failed,
       count(*) FILTER (WHERE s.state = 3) AS in_progress,
       count(*) FILTER (WHERE s.is_pending) AS pending
  FROM customer_state AS s
 GROUP BY s.kind
