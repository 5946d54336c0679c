-- One statement or string a line. Adapted to the demo's schema from the list of ways out that was
-- measured against PostgreSQL itself. What only masks (a bare output) says so.
SELECT email FROM customers WHERE id = 1 /* masked */
SELECT c FROM customers AS t(a, b, c, d) WHERE a = 1 /* masked */
SELECT U&"\0065mail" FROM customers WHERE id = 1 /* masked */
TABLE customers /* masked */
SELECT c FROM customers c WHERE id = 1
SELECT (x.r).email FROM (SELECT c AS r FROM customers c WHERE id = 1) x
SELECT (c).email FROM customers c WHERE id = 1
SELECT c.to_json FROM customers c
SELECT row_to_json(c) FROM customers c WHERE id = 1
SELECT json_agg(c) FROM customers c
SELECT json_build_object('k', national_id) FROM customers WHERE id = 1
SELECT k, v FROM customers c, jsonb_each_text(to_jsonb(c)) AS j(k, v) WHERE c.id = 1
SELECT xmlforest(national_id) FROM customers WHERE id = 1
SELECT ARRAY[email, national_id] FROM customers WHERE id = 1
SELECT string_agg(national_id, ';') FROM customers
SELECT min(email), max(national_id) FROM customers WHERE id = 1
SELECT format('%s', c) FROM customers c WHERE id = 1
SELECT '<' || national_id || '>' FROM customers WHERE id = 1
SELECT reverse(email) FROM customers WHERE id = 1
SELECT encode(national_id::bytea, 'hex') FROM customers WHERE id = 1
SELECT md5(national_id) FROM customers WHERE id = 1
SELECT national_id::bytea FROM customers WHERE id = 1
SELECT substr(national_id, 6, 4)::bigint FROM customers WHERE id = 1
SELECT substr(national_id, 6, 4)::oid::regclass FROM customers WHERE id = 1
SELECT ('x' || encode(national_id::bytea, 'hex'))::bit(88) FROM customers WHERE id = 1
SELECT substr(national_id, g, 1) FROM customers, generate_series(1, 14) g WHERE id = 1 ORDER BY g
SELECT left(email, 5) FROM customers WHERE id = 1; SELECT right(email, 6) FROM customers WHERE id = 1
SELECT regexp_matches(national_id, '(....)-(....)-(....)') FROM customers WHERE id = 1
SELECT to_tsvector('simple', national_id) FROM customers WHERE id = 1
SELECT CASE WHEN id = 1 THEN national_id ELSE city END FROM customers
SELECT (SELECT national_id FROM customers WHERE id = 1) AS n
SELECT z FROM (SELECT upper(email) AS z FROM customers WHERE id = 1) q
VALUES (1, (SELECT national_id FROM customers WHERE id = 1))
SELECT city FROM customers WHERE false UNION ALL SELECT national_id FROM customers WHERE id = 1
SELECT city FROM customers UNION (SELECT email FROM customers EXCEPT SELECT city FROM customers)
WITH a AS MATERIALIZED (SELECT email x FROM customers WHERE id = 1), b AS (SELECT x AS y FROM a) SELECT y FROM b /* masked */
WITH a AS (SELECT email x FROM customers WHERE id = 1) SELECT x || '' FROM a
WITH RECURSIVE t(e, n) AS (SELECT email, 1 FROM customers WHERE id = 1 UNION ALL SELECT substr(e, 2), n + 1 FROM t WHERE n < 5) SELECT e FROM t
WITH x AS (DELETE FROM customers WHERE id = 1 RETURNING email) SELECT * FROM x
WITH x AS (DELETE FROM customers RETURNING id) SELECT * FROM x
WITH x AS (UPDATE customers SET city = 'z' WHERE id = 1 RETURNING id) SELECT * FROM x
EXPLAIN ANALYZE DELETE FROM customers
EXPLAIN ANALYZE DELETE FROM customers WHERE id = 1
EXPLAIN (ANALYZE, FORMAT json) UPDATE customers SET city = 'z'
EXPLAIN (VERBOSE) SELECT customer_email(1)
EXPLAIN SELECT 1 FROM customers WHERE national_id > 'DEMO-4'
SELECT code FROM customer_codes WHERE id = 1
SELECT * FROM customer_codes
SELECT customer_email(1)
SELECT * FROM customer_email(1)
SELECT public.customer_email(wanted => 1)
SELECT id FROM orders WHERE customer_email(1) LIKE 'f%'
INSERT INTO notes (body) SELECT email FROM customers WHERE id = 1 RETURNING body
INSERT INTO notes (body) VALUES ((SELECT national_id FROM customers WHERE id = 1)) RETURNING *
INSERT INTO notes (body) SELECT customer_email(1) RETURNING body
INSERT INTO notes (id, body) SELECT 1, email FROM customers WHERE id = 1 ON CONFLICT (id) DO UPDATE SET body = excluded.body RETURNING body
UPDATE notes SET body = c.email FROM customers c WHERE c.id = notes.id RETURNING body
UPDATE notes n SET body = 'x' FROM customers c WHERE c.id = n.id RETURNING c.national_id AS body
DELETE FROM notes USING customers c WHERE c.id = notes.id AND c.email LIKE 'f%'
MERGE INTO notes n USING customers c ON n.id = c.id WHEN MATCHED THEN UPDATE SET body = c.email
SELECT email AS v INTO TEMP z_b FROM customers
CREATE TEMP TABLE z_t AS SELECT email FROM customers
CREATE TEMP VIEW notes AS SELECT id, email AS body FROM public.customers
CREATE VIEW z_v AS SELECT email FROM customers
CREATE FUNCTION pg_temp.z_g() RETURNS text LANGUAGE sql AS 'SELECT email FROM public.customers LIMIT 1'
CREATE RULE z_r AS ON UPDATE TO notes DO INSTEAD SELECT email FROM customers WHERE id = 1
ALTER TABLE customers RENAME COLUMN national_id TO plain
ALTER TABLE customers ADD COLUMN z_c text GENERATED ALWAYS AS (email) STORED
ALTER TABLE notes ALTER body SET DEFAULT customer_email(1)
BEGIN; DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT email FROM customers ORDER BY id; COMMIT; FETCH LAST FROM h
DECLARE z CURSOR WITH HOLD FOR SELECT email FROM customers
PREPARE p AS SELECT lower(email) FROM customers WHERE id = $1
SELECT email FROM customers FULL JOIN (SELECT 'x' AS email) x USING (email) WHERE customers.id = 1
SELECT c.id FROM customers c JOIN notes n ON n.body = c.email
SELECT c.id FROM customers c NATURAL JOIN (SELECT 'frieda' AS email) x
SELECT d FROM customers, generate_series(1, 14) i, unnest(string_to_array('0,1,2,3,4,5,6,7,8,9,-', ',')) d WHERE id = 1 AND substr(national_id, i, 1) = d ORDER BY i
SELECT CASE substr(national_id, i, 1) WHEN '4' THEN '4' ELSE '-' END FROM customers, generate_series(1, 14) i WHERE id = 1
SELECT mode() WITHIN GROUP (ORDER BY email), percentile_disc(0) WITHIN GROUP (ORDER BY national_id) FROM customers WHERE id = 1
SELECT FROM generate_series(1, 9000) LIMIT (SELECT substr(national_id, 6, 4)::int FROM customers WHERE id = 1)
INSERT INTO notes (body) SELECT 'z' FROM customers, generate_series(1, substr(national_id, 6, 4)::int) g WHERE customers.id = 1
SELECT first_value(email) OVER (ORDER BY id) FROM customers
SELECT id, rank() OVER (ORDER BY email) FROM customers
SELECT DISTINCT email FROM customers
SELECT email, count(*) FROM customers GROUP BY email
SELECT id FROM customers ORDER BY email
SELECT email FROM customers ORDER BY 1
DO $$ begin raise notice '%', (select email from customers limit 1); end $$
DO $$ begin execute format('create table %I (a int)', 'z_' || (select national_id from customers where id = 1)); end $$
DO $$ begin raise exception using message = 'm', column = (select national_id from customers where id = 1); end $$
SELECT count(set_config('my.w', email, false)) FROM customers WHERE id = 1
SELECT set_config('my.w', 'x', false)
SELECT count(pg_notify('ch', email)) FROM customers WHERE id = 1
NOTIFY ch, 'x'
LISTEN ch
SELECT lo_from_bytea(424242, email::bytea) FROM customers WHERE id = 1
SELECT lo_get(424242)
COPY customers TO STDOUT
COPY (SELECT email FROM customers) TO STDOUT (FORMAT binary)
COPY customer_codes TO STDOUT
COPY notes (body) FROM PROGRAM 'cat /etc/passwd'
SELECT national_id::int FROM customers WHERE id = 1
SELECT national_id::json FROM customers WHERE id = 1
SELECT ('{' || national_id)::jsonb FROM customers WHERE id = 1
SELECT email::inet FROM customers WHERE id = 1
SELECT national_id::uuid FROM customers WHERE id = 1
SELECT 1 / (length(email) - 28) FROM customers WHERE id = 1
UPDATE customers SET id = NULL WHERE id = 1
UPDATE customers SET name = NULL WHERE id = 1 RETURNING email
INSERT INTO customers SELECT * FROM customers WHERE id = 1
INSERT INTO customers (id, name, email, national_id, city) SELECT 1, name, email, national_id, NULL FROM customers
SELECT histogram_bounds FROM pg_stats WHERE tablename = 'customers'
SELECT stavalues1 FROM pg_statistic
SELECT most_common_vals FROM pg_stats_ext
SELECT query FROM pg_stat_activity
SELECT * FROM pg_prepared_statements
SELECT * FROM pg_cursors
SELECT * FROM pg_largeobject
SELECT * FROM pg_shadow
SELECT * FROM pg_class
SELECT get_raw_page('customers', 0)
SELECT pg_read_binary_file(pg_relation_filepath('customers'))
SELECT pg_read_file('/etc/passwd')
SELECT pg_ls_dir('.')
SELECT table_to_xml('customers', true, false, '')
SELECT query_to_xml('TABLE customers', false, true, '')
SELECT query_to_xml_and_xmlschema('TABLE customers', false, true, '')
SELECT database_to_xml(true, false, '')
SELECT cursor_to_xml('h', 1, true, true, '')
SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery')
SELECT * FROM ts_stat('SELECT to_tsvector(email) FROM customers')
SELECT hashtext(email), hashtextextended(national_id, 7) FROM customers WHERE id = 1
SELECT pg_column_size(email), octet_length(national_id) FROM customers WHERE id = 1
SELECT width_bucket(substr(national_id, 6, 1), ARRAY['4']) FROM customers WHERE id = 1
SELECT email IS NULL, email = email, email IN ('x') FROM customers WHERE id = 1
SELECT id FROM customers WHERE (email, id) = ('x', 1)
SELECT id FROM customers WHERE customers = ROW(1, '', '', '', '', now())
SELECT count(c) FROM customers c WHERE c.* IS NOT NULL
SELECT 1 FROM pg_create_logical_replication_slot('z_slot', 'test_decoding')
SELECT pg_sleep(1), email FROM customers
SELECT * FROM customers c, LATERAL (SELECT c.email || '') x
SELECT * FROM ROWS FROM (customer_email(1), generate_series(1, 2)) AS t(a, b)
SELECT id FROM customers GROUP BY GROUPING SETS ((id), (email))
SELECT id FROM customers WINDOW w AS (PARTITION BY national_id)
SELECT email COLLATE "C" FROM customers WHERE id = 1
SELECT email::varchar(3) FROM customers WHERE id = 1
SELECT NULLIF(email, 'x'), COALESCE(email, 'x'), GREATEST(email, 'a') FROM customers
SELECT ROW(email, 1), ROW(customers.*) FROM customers
TRUNCATE customers
DROP TABLE customers CASCADE
DELETE FROM customers
DELETE FROM customers WHERE true
DELETE FROM notes
GRANT SELECT ON customers TO PUBLIC
LOCK TABLE customers; SELECT customer_email(1)
ANALYZE VERBOSE customers
VACUUM customers
