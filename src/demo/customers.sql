-- The demo's customers: nobody here exists. Column classes are declared in `gateway.toml`.

CREATE TABLE customers (
    id          int PRIMARY KEY,
    name        text NOT NULL,
    email       text NOT NULL,
    national_id text NOT NULL,
    city        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    id          int PRIMARY KEY,
    customer_id int NOT NULL REFERENCES customers ON DELETE CASCADE,
    amount      numeric(10, 2) NOT NULL,
    ordered_at  timestamptz NOT NULL
);

CREATE TABLE notes (
    id   serial PRIMARY KEY,
    body text NOT NULL
);

INSERT INTO customers (id, name, email, national_id, city, created_at) VALUES
    ( 1, 'Frieda Ackerbrot',   'frieda.ackerbrot@example.com',  'DEMO-4815-0001', 'Bremen',   '2024-01-08 09:12+01'),
    ( 2, 'Jonas Birkenfels',   'jonas.birkenfels@example.net',  'DEMO-1623-0002', 'Leipzig',  '2024-01-19 14:03+01'),
    ( 3, 'Carla Distelweg',    'carla.distelweg@example.org',   'DEMO-4299-0003', 'Hamburg',  '2024-02-02 11:47+01'),
    ( 4, 'Emil Eulenspiel',    'emil.eulenspiel@example.com',   'DEMO-7310-0004', 'Dresden',  '2024-02-23 16:30+01'),
    ( 5, 'Hanna Farnkraut',    'hanna.farnkraut@example.net',   'DEMO-2205-0005', 'Kassel',   '2024-03-05 08:55+01'),
    ( 6, 'Piet Glockengarten', 'piet.glocken@example.org',      'DEMO-9041-0006', 'Kiel',     '2024-03-28 19:21+01'),
    ( 7, 'Selma Himbeer',      'selma.himbeer@example.com',     'DEMO-5578-0007', 'Mainz',    '2024-04-11 10:10+02'),
    ( 8, 'Arvid Irrlicht',     'arvid.irrlicht@example.net',    'DEMO-3364-0008', 'Erfurt',   '2024-04-30 13:39+02'),
    ( 9, 'Milena Jahrmarkt',   'milena.jahrmarkt@example.org',  'DEMO-8127-0009', 'Bonn',     '2024-05-16 17:02+02'),
    (10, 'Oskar Kieselstein',  'oskar.kieselstein@example.com', 'DEMO-6650-0010', 'Rostock',  '2024-06-03 12:26+02'),
    (11, 'Lotte Laternenweg',  'lotte.laternenweg@example.net', 'DEMO-1982-0011', 'Ulm',      '2024-06-21 09:44+02'),
    (12, 'Bruno Mondschein',   'bruno.mondschein@example.org',  'DEMO-7405-0012', 'Potsdam',  '2024-07-09 15:18+02'),
    (13, 'Ida Nebelhorn',      'ida.nebelhorn@example.com',     'DEMO-2836-0013', 'Husum',    '2024-08-01 18:07+02'),
    (14, 'Timo Ofenrohr',      'timo.ofenrohr@example.net',     'DEMO-9513-0014', 'Jena',     '2024-08-27 07:33+02'),
    (15, 'Greta Pusteblume',   'greta.pusteblume@example.org',  'DEMO-4470-0015', 'Bochum',   '2024-09-13 20:50+02'),
    (16, 'Anton Quellwasser',  'anton.quellwasser@example.com', 'DEMO-6098-0016', 'Freiburg', '2024-10-04 11:15+02'),
    (17, 'Nele Rabenstein',    'nele.rabenstein@example.net',   'DEMO-3721-0017', 'Goslar',   '2024-10-29 14:58+01'),
    (18, 'Falk Silberdistel',  'falk.silberdistel@example.org', 'DEMO-8846-0018', 'Trier',    '2024-11-15 16:41+01'),
    (19, 'Marta Tannenzapf',   'marta.tannenzapf@example.com',  'DEMO-1157-0019', 'Passau',   '2024-12-06 10:29+01'),
    (20, 'Viktor Uferlos',     'viktor.uferlos@example.net',    'DEMO-5294-0020', 'Lübeck',   '2025-01-17 13:05+01');

INSERT INTO orders (id, customer_id, amount, ordered_at)
    SELECT n, 1 + (n * 7) % 20, round((5 + (n * 37) % 400 + 0.01 * (n % 100))::numeric, 2),
           timestamptz '2025-02-01 08:00+01' + n * interval '11 hours'
    FROM generate_series(1, 60) AS n;

INSERT INTO notes (body) VALUES ('the scales in the warehouse are due in May'), ('ask about the invoices');

-- Not declared: they show that a classified column does not get out another way.
CREATE VIEW customer_codes AS
    SELECT id, left(national_id, 9) AS code FROM customers;

CREATE FUNCTION customer_email(wanted int) RETURNS text
    LANGUAGE sql STABLE
    AS 'SELECT email FROM public.customers WHERE id = wanted';

ANALYZE;
