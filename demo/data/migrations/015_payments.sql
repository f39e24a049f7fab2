create table payments (
  id text primary key,
  -- An order is paid once.
  order_id text not null unique references orders,
  amount integer not null check (amount >= 0),
  currency text not null,
  status text not null,
  -- All that is ever known of the card.
  last_four text not null check (last_four ~ '^[0-9]{4}$'),
  created_at timestamptz not null default now()
);
