-- Language models whose weights were made random: the floor of comparisons.

-- 'shuffle=N': random model N of those whose weights are the source's in random order; 'init=N':
-- drawn as before training; null where the weights are the source's own
alter table models add column randomized varchar;
