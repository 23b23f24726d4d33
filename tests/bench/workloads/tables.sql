-- Tables in memory: inserts, an index, joins, updates, deletes, text.
pragma temp_store = memory;
create table item (id integer primary key, name text, price real, kind integer);
create table sale (item integer, day integer, note text);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
insert into item select i, printf('item-%08d', i * 7919 % 100003), i * 1.25, i % 53 from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
insert into sale select i * 31 % 20000, i % 365, printf('note %d of %d', i, i % 17) from n;
create index sale_item on sale (item, day);
commit;
select count(*), sum(length(name)) from item join sale on item.id = sale.item where kind < 20;
update item set name = name || '/' || kind where id % 3 = 0;
select kind, count(*), max(name) from item group by kind order by max(name) limit 5;
select sum(length(g)) from (select group_concat(note) as g from sale group by day);
delete from sale where day % 2 = 0;
select count(*), count(distinct note) from sale;
select sum(n) from (select name, row_number() over (partition by kind order by price desc) as n from item);
