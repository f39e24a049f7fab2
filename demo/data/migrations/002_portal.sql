create table posts (
  id text primary key,
  author_id text not null references users on delete cascade,
  title text not null,
  content text not null,
  tags text[] not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index posts_recent on posts (created_at desc, id desc);
create index posts_author on posts (author_id);

create table comments (
  id text primary key,
  post_id text not null references posts on delete cascade,
  author_id text not null references users on delete cascade,
  content text not null,
  created_at timestamptz not null default now()
);
create index comments_post on comments (post_id, created_at);
create index comments_author on comments (author_id);

create table documents (
  id text primary key,
  owner_id text not null references users on delete cascade,
  title text not null,
  content text not null,
  updated_at timestamptz not null default now()
);
create index documents_owner on documents (owner_id);

create table document_shares (
  document_id text not null references documents on delete cascade,
  user_id text not null references users on delete cascade,
  actions text[] not null,
  primary key (document_id, user_id)
);
create index document_shares_user on document_shares (user_id);

create table orders (
  id text primary key,
  -- Kept without its owner after an erasure: the law wants the record, not the person.
  user_id text references users on delete set null,
  item text not null,
  total integer not null check (total >= 0),
  currency text not null,
  status text not null default 'open',
  created_at timestamptz not null default now()
);
create index orders_user on orders (user_id, created_at);
