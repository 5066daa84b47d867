-- Steps without effects that were cancelled while their outcome was unknown kept their slots; nothing goes on in them.
delete from slots h using steps s where s.id = h.step_id and s.state in ('done', 'skipped', 'undone');
