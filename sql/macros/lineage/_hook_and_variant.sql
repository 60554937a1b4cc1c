-- Hook and variant as the arguments of a macro, as they are typed.
create or replace macro _hook_and_variant(hook, variant) as
    'hook := ' || coalesce('''' || hook || '''', 'null')
    || coalesce(', variant := ''' || variant || '''', '');
