-- One cell's share of a mutual information: p·ln(p / (p_row·p_column)), 0 for an empty cell.
create or replace macro _information_cell(n, n_row, n_column, n_cell) as if(
    n_cell > 0,
    n_cell::double / n::double
    * ln((n_cell::double * n::double) / (n_row::double * n_column::double)),
    0.0::double
);
