-- Titles in upper case, as JavaScript writes it: what a database takes for one depends on its locale.
alter table posts add column title_upper text not null default '';
update posts set title_upper = upper(title);
