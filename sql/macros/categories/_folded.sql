-- A word as words are compared: composed (NFC), in lower case, with a straight apostrophe.
--
-- text: the word, or several
create or replace macro _folded(text) as lower(nfc_normalize(replace(text, '’', '''')));
